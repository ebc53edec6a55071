#include "mail.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "../tensor/error.h"

namespace thalweg {
namespace {

// Messages that nobody has taken, and places for those that have not come, by (from, to, tag); in order.
struct Mail {
  struct Place {
    uint64_t number;
    std::byte* data;
    int bytes;
  };
  struct Box {
    std::deque<std::vector<std::byte>> messages;
    std::deque<Place> places;
  };
  std::mutex mutex;
  std::map<std::tuple<int, int, int>, Box> boxes;
  std::set<uint64_t> open;  // the numbers of places that nothing has come to
  uint64_t count = 0;

  void match(Box& box) {
    for (; !box.messages.empty() && !box.places.empty(); box.messages.pop_front(), box.places.pop_front()) {
      const Place& place = box.places.front();
      const std::vector<std::byte>& message = box.messages.front();
      if (int(message.size()) > place.bytes)
        fail("[mail] a message of ", message.size(), " bytes came for ", place.bytes);
      if (!message.empty()) std::memcpy(place.data, message.data(), message.size());
      open.erase(place.number);
    }
  }
};

class MailCalls final : public MpiCalls {
 public:
  MailCalls(std::shared_ptr<Mail> mail, int rank, int size) : mail_(std::move(mail)), rank_(rank), size_(size) {}
  const char* abi() const override { return "threads"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  MpiRequest send(const std::byte* data, int bytes, int to, int tag) override {
    const std::lock_guard lock(mail_->mutex);
    Mail::Box& box = mail_->boxes[{rank_, to, tag}];
    box.messages.emplace_back(data, data + bytes);
    mail_->match(box);
    return {};  // done
  }
  MpiRequest receive(std::byte* data, int bytes, int from, int tag) override {
    const std::lock_guard lock(mail_->mutex);
    Mail::Box& box = mail_->boxes[{from, rank_, tag}];
    const uint64_t number = ++mail_->count;
    mail_->open.insert(number);
    box.places.push_back({number, data, bytes});
    mail_->match(box);
    return {number};
  }
  bool test(MpiRequest& request) override {
    const std::lock_guard lock(mail_->mutex);
    return mail_->open.count(request.bits) == 0;
  }
  void cancel(MpiRequest& request) override {
    const std::lock_guard lock(mail_->mutex);
    if (mail_->open.erase(request.bits)) taken_back_.insert(request.bits);
    for (auto& [key, box] : mail_->boxes)
      std::erase_if(box.places, [&](const Mail::Place& place) { return place.number == request.bits; });
  }
  bool test_cancelled(MpiRequest& request, bool& taken_back) override {
    taken_back = taken_back_.erase(request.bits) > 0;
    return true;
  }

 private:
  const std::shared_ptr<Mail> mail_;
  const int rank_, size_;
  std::set<uint64_t> taken_back_;
};

}  // namespace

std::vector<std::unique_ptr<MpiCalls>> make_mail(int size) {
  auto mail = std::make_shared<Mail>();
  std::vector<std::unique_ptr<MpiCalls>> all;
  for (int r = 0; r < size; r++) all.push_back(std::make_unique<MailCalls>(mail, r, size));
  return all;
}

}  // namespace thalweg
