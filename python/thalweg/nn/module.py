"""Modules: the layers of a network, and how their parameters get names.

A module says what it computes in `forward`, which composes thalweg.ops (and other modules) on symbolic tensors.
Modules, parameters and buffers assigned to attributes are registered under the attribute's name, so a parameter's
path reads "features.0.weight". A module used in two places has one set of parameters, under the first path. A
network holds no values: these belong to a Trainer, or to the dict that functional_call is given.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from .. import init as initial
from ..symbolic import Operators, Recording, SymbolicTensor, current


class Held(Operators):
    """An array that belongs to a layer: a parameter or a buffer. In forward it is used like a tensor.

    shape: its shape, or None if `infer` is to fix it when the input's size is known.
    """

    def __init__(self, shape: Sequence[int] | None) -> None:
        self.shape = None if shape is None else _checked_shape(shape)

    def infer(self, *shape: int) -> SymbolicTensor:
        """Return the tensor, its shape fixed by the input that is recorded now."""
        return self._resolve(_recording(self), _checked_shape(shape))

    def tensor(self) -> SymbolicTensor:
        """Return the tensor of the network that is recorded now."""
        if self.shape is None:
            raise ValueError(
                f"[{type(self).__name__}] the shape is not known: give it, or call infer(shape) in forward"
            )
        return self._resolve(_recording(self), self.shape)

    def _resolve(self, recording: Recording, shape: tuple[int, ...]) -> SymbolicTensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"


class Parameter(Held):
    """A trained array of a layer, of a given or an inferred shape (see Held).

    init: an initialiser of thalweg.init, or any function (shape, dtype, seed, path) -> array.
    """

    def __init__(
        self, shape: Sequence[int] | None = None, init: initial.Init | None = None, *, trainable: bool = True
    ) -> None:
        super().__init__(shape)
        self.init = init if init is not None else initial.kaiming_normal()
        if not callable(self.init):
            raise TypeError(f"[Parameter] init is a {type(init).__name__}, expected an initialiser or a function")
        self.trainable = trainable

    def _resolve(self, recording: Recording, shape: tuple[int, ...]) -> SymbolicTensor:
        return recording.resolve_parameter(self, shape)


class Buffer(Held):
    """An array of a layer that is kept from step to step but not trained, such as a running mean."""

    def __init__(self, shape: Sequence[int] | None = None, value: float = 0.0) -> None:
        super().__init__(shape)
        self.value = float(value)

    def update(self, value: SymbolicTensor) -> None:
        """Let value replace the buffer when the training step is accepted; forward reads it from now on."""
        _recording(self).update_buffer(self, value)

    def _resolve(self, recording: Recording, shape: tuple[int, ...]) -> SymbolicTensor:
        return recording.resolve_buffer(self, shape)


class Module:
    """A layer or network. Subclasses call super().__init__(), assign their parts to attributes and define forward."""

    _parts: dict[str, Any]  # modules, parameters and buffers by attribute

    def __init__(self) -> None:
        object.__setattr__(self, "_parts", {})

    def forward(self, *inputs: Any) -> Any:
        """Compute the outputs from the inputs with thalweg.ops."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        recording = current()
        if recording is None:
            raise TypeError(
                f"{type(self).__name__} holds no values, so it can't be called on arrays: use "
                "Trainer.predict(x), or nn.functional_call(net, parameters, x)"
            )
        recording.enter(self)
        with recording.within(recording.names[id(self)]):
            output = self.forward(*inputs, **options)
        recording.leave(self, output)
        return output

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Module, Parameter, Buffer)):
            self._register(name, value)
        else:
            self.__dict__.get("_parts", {}).pop(name, None)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._parts.pop(name, None)
        object.__delattr__(self, name)

    def _register(self, name: str, part: Any) -> None:
        if "_parts" not in self.__dict__:
            raise TypeError(f"{type(self).__name__}: call super().__init__() before parts are assigned")
        if not name or "." in name:
            raise ValueError(f"[{type(self).__name__}] a part can't be named {name!r}: expected a name without dots")
        self._parts[name] = part

    def named_parts(self, path: str = "") -> Iterator[tuple[str, Any]]:
        """Yield (path, part) of this module, all modules inside, and their parameters and buffers; shared ones once."""
        yield from _walk(self, path, set())

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter, shared ones once."""
        return (parameter for _, parameter in self.named_parameters())

    def modules(self) -> Iterator[Module]:
        """Yield this module and all inside, shared ones once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) of the modules assigned to this one, in order."""
        return ((name, part) for name, part in self._parts.items() if isinstance(part, Module))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield (path, module) of this module ("") and all inside."""
        return ((path, part) for path, part in self.named_parts() if isinstance(part, Module))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter), shared parameters once, under their first path."""
        return ((path, part) for path, part in self.named_parts() if isinstance(part, Parameter))

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Yield (path, buffer), shared ones once."""
        return ((path, part) for path, part in self.named_parts() if isinstance(part, Buffer))

    def children(self) -> Iterator[Module]:
        """Yield the modules assigned to this one, in order."""
        return (part for _, part in self.named_children())

    def freeze(self) -> Module:
        """Exclude all parameters inside from training, in trainers made from now on. Returns the module."""
        return self._set_trainable(False)

    def unfreeze(self) -> Module:
        """Train all parameters inside again, in trainers made from now on. Returns the module."""
        return self._set_trainable(True)

    def _set_trainable(self, trainable: bool) -> Module:
        for _, parameter in self.named_parameters():
            parameter.trainable = trainable
        return self

    def options(self) -> dict[str, Any]:
        """Return the arguments that __repr__ shows and that a description of a built-in layer keeps."""
        return {}

    def _usual(self) -> dict[str, Any]:
        """Return the options' values that __repr__ leaves out: the defaults of __init__."""
        arguments = inspect.signature(type(self).__init__).parameters
        return {name: a.default for name, a in arguments.items() if a.default is not a.empty}

    def __repr__(self) -> str:
        usual = self._usual()
        shown = {k: v for k, v in self.options().items() if k not in usual or not _same(v, usual[k])}
        own = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        inner = "".join(f"\n  {name}: " + repr(part).replace("\n", "\n  ") for name, part in self.named_children())
        return f"{type(self).__name__}({own}{inner}{chr(10) if inner else ''})"


def is_training() -> bool:
    """Tell, inside forward, whether a training step is recorded (rather than evaluation)."""
    recording = current()
    return recording is not None and recording.train


def _walk(module: Module, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield path, module
    for name, part in module._parts.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(part, Module):
            yield from _walk(part, inner, seen)
        elif id(part) not in seen:
            seen.add(id(part))
            yield inner, part


def _same(value: Any, usual: Any) -> bool:
    """Tell whether an option has its usual value; a number may stand for a list of it."""
    parts = value if isinstance(value, list) and value and not isinstance(usual, list) else [value]
    return all(repr(part) == repr(usual) for part in parts)


def _recording(part: Any) -> Recording:
    recording = current()
    if recording is None:
        raise TypeError(f"{part!r} has no value outside a network's forward")
    return recording


def _checked_shape(shape: Any) -> tuple[int, ...]:
    from ..ops.axes import integer

    return tuple(integer(extent, "Parameter", "shape", 1) for extent in shape)
