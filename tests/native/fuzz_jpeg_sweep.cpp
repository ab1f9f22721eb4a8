// libFuzzer: sizes, strides, qualities, formats, threads and pixels of the sweep, hostile numbers included. Buffers are
// exactly as large as the interface says, so AddressSanitizer sees any byte too many; what runs must not depend on the
// instructions.
//   cmake -S . -B build/fuzz -DCMAKE_CXX_COMPILER=clang++ -DFIREWALL_BUILD_FUZZERS=ON
//     -DFIREWALL_SANITIZE=address,undefined
//   cmake --build build/fuzz && build/fuzz/tests/native/fuzz_jpeg_sweep -max_total_time=60
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "firewall/jpeg_sweep.h"

namespace {

class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  template <typename T>
  T take() {
    T value{};
    const std::size_t n = size_ < sizeof value ? size_ : sizeof value;
    std::memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader(data, size);
  const bool hostile = reader.take<std::uint8_t>() % 4 == 0;
  firewall_jpeg_options options = {};
  options.sampling = hostile ? reader.take<std::int8_t>() : reader.take<std::uint8_t>() % 4;
  options.format = hostile ? reader.take<std::int8_t>() : reader.take<std::uint8_t>() % 3;
  options.threads = hostile ? reader.take<std::int8_t>() : 1 + reader.take<std::uint8_t>() % 3;
  for (int c = 0; c < 3; ++c) {
    options.mean[c] = hostile ? reader.take<double>() : 0.5;
    options.std[c] = hostile ? reader.take<double>() : 0.25;
  }
  if (reader.take<std::uint8_t>() % 2 == 0) {
    options.result_height = hostile ? reader.take<std::int16_t>() : 1 + reader.take<std::uint8_t>() % 80;
    options.result_width = hostile ? reader.take<std::int16_t>() : 1 + reader.take<std::uint8_t>() % 80;
    constexpr std::int32_t kFilters[] = {FIREWALL_FILTER_NEAREST, FIREWALL_FILTER_BILINEAR, FIREWALL_FILTER_BICUBIC,
                                         FIREWALL_FILTER_BOX};
    const auto filter = reader.take<std::uint8_t>();
    options.filter = hostile ? filter : kFilters[filter % 4];
  }
  const int channels = options.sampling == FIREWALL_JPEG_GREY ? 1 : 3;
  const std::int32_t height = hostile ? reader.take<std::int16_t>() : 1 + reader.take<std::uint8_t>() % 80;
  const std::int32_t width = hostile ? reader.take<std::int16_t>() : 1 + reader.take<std::uint8_t>() % 80;
  const std::ptrdiff_t stride =
      hostile ? reader.take<std::int16_t>() : channels * width + reader.take<std::uint8_t>() % 9;
  std::vector<std::int32_t> qualities(reader.take<std::uint8_t>() % 4);
  for (std::int32_t& quality : qualities) {
    quality = hostile ? reader.take<std::int8_t>() : 1 + reader.take<std::uint8_t>() % 100;
  }
  const auto count = static_cast<std::int32_t>(qualities.size());
  const std::size_t bytes = firewall_jpeg_sweep_bytes(1, height, width, count, &options);
  const std::size_t room = firewall_jpeg_sweep_scratch(height, width, &options);
  if (bytes > (1u << 22) || room > (1u << 22)) return 0;
  // As many pixels as the numbers promise, whatever they are; too few for them are refused by the stride.
  const std::ptrdiff_t row = std::ptrdiff_t{channels} * width;
  const bool sound = height > 0 && width > 0 && stride >= row;
  std::vector<std::uint8_t> pixels(sound ? static_cast<std::size_t>(stride * (height - 1) + row) : 1);
  const auto kind = reader.take<std::uint8_t>();
  auto state = reader.take<std::uint32_t>();
  for (std::uint8_t& pixel : pixels) {
    state = state * 1664525u + 1013904223u;
    pixel = static_cast<std::uint8_t>(kind % 3 == 0 ? state >> 24 : kind % 3 == 1 ? (state >> 31) * 255 : kind);
  }
  const firewall_images source = {pixels.data(), 0, stride, 1, height, width};
  std::vector<std::uint8_t> first(bytes), scratch(room);
  const int status =
      firewall_jpeg_sweep(first.data(), bytes, &source, qualities.data(), count, &options, scratch.data(), room);
  if (status != FIREWALL_OK && !hostile) std::abort();
  if (status == FIREWALL_OK && bytes > 0) {
    options.instructions = FIREWALL_JPEG_PORTABLE;
    options.threads = 1;
    scratch.resize(firewall_jpeg_sweep_scratch(height, width, &options));
    std::vector<std::uint8_t> second(bytes);
    if (firewall_jpeg_sweep(second.data(), bytes, &source, qualities.data(), count, &options, scratch.data(),
                            scratch.size()) != FIREWALL_OK ||
        first != second) {
      std::abort();
    }
  }
  return 0;
}
