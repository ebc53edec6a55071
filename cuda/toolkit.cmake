# Finds nvcc and enables the language CUDA, with the flags of every file that uses formulas. CMAKE_CUDA_COMPILER or
# CUDACXX name an nvcc; otherwise the one on the PATH, that of Python's environment (the wheels nvidia-cuda-nvcc,
# nvidia-cuda-runtime, nvidia-cuda-crt, nvidia-cuda-cccl, nvidia-nvvm), or /usr/local/cuda. CMAKE_CUDA_ARCHITECTURES
# names the GPUs to build for; by default Hopper, and later ones through its PTX.
if(NOT CMAKE_CUDA_COMPILER AND DEFINED ENV{CUDACXX})
  set(CMAKE_CUDA_COMPILER $ENV{CUDACXX})
elseif(NOT CMAKE_CUDA_COMPILER)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
  execute_process(COMMAND ${Python_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('purelib'), end='')"
    OUTPUT_VARIABLE site_packages COMMAND_ERROR_IS_FATAL ANY)
  find_program(nvcc nvcc PATHS ${site_packages}/nvidia/cu13/bin /usr/local/cuda/bin)
  if(NOT nvcc)
    message(FATAL_ERROR "THALWEG_CUDA=ON, but there is no nvcc; name one with -DCMAKE_CUDA_COMPILER=")
  endif()
  set(CMAKE_CUDA_COMPILER ${nvcc})
endif()
# The wheels keep their libraries in lib/, where nvcc does not look; CMake learns the folder from this call.
get_filename_component(toolkit "${CMAKE_CUDA_COMPILER}/../.." ABSOLUTE)
if(EXISTS ${toolkit}/lib/libcudart_static.a)
  set(ENV{NVCC_APPEND_FLAGS} "-L${toolkit}/lib $ENV{NVCC_APPEND_FLAGS}")
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)

# The same bits as on the CPU: fma where it is written and nowhere else, every operation rounded as IEEE 754 says,
# denormal numbers kept. Extended lambdas: the table of formulas. 1675: pragmas that are GCC's.
add_library(thalweg_cuda_flags INTERFACE)
target_compile_options(thalweg_cuda_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -ftz=false -prec-div=true -prec-sqrt=true --extended-lambda -diag-suppress=1675>)
