// Networks through the C interface: what plain sums in double precision give, the same bits at every level of vector
// instructions and whatever else is in the batch, no allocation while they run, and refusals.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "../../runtime/cpu/network/loops.hpp"
#include "allocations.hpp"
#include "expect.hpp"
#include "firewall/network.h"

namespace {

using Numbers = std::vector<float>;

class Random {
 public:
  float next() {
    state_ = state_ * 1664525U + 1013904223U;
    return static_cast<float>(state_ >> 8) / 16777216.0F - 0.5F;
  }
  Numbers numbers(std::size_t count, float size) {
    Numbers made(count);
    for (float& each : made) each = size * next();
    return made;
  }

 private:
  std::uint32_t state_ = 7;
};

struct Network {
  int side, prepare;
  float first, second;
  std::vector<firewall_layer> layers;
  std::vector<Numbers> kept;
  std::vector<int> channels, sides;  // of each output
  Random random;

  Network(int side_, int prepare_, float first_, float second_)
      : side(side_), prepare(prepare_), first(first_), second(second_) {}

  int before(int input) const { return input < 0 ? 3 : channels[static_cast<std::size_t>(input)]; }
  int side_of(int input) const { return input < 0 ? side : sides[static_cast<std::size_t>(input)]; }

  Network& add(int kind, int input, int added, int outputs, int kernel, int stride, int padding, bool rectified) {
    const int inputs = kind == FIREWALL_LAYER_WHOLE ? 1 : before(input);
    const auto count = static_cast<std::size_t>(outputs * inputs * kernel * kernel);
    kept.push_back(random.numbers(count, 2.0F / std::sqrt(static_cast<float>(inputs * kernel * kernel))));
    kept.push_back(random.numbers(static_cast<std::size_t>(outputs), 0.2F));
    layers.push_back({kind, input, added, outputs, kernel, stride, padding, rectified ? 1 : 0, nullptr, nullptr});
    channels.push_back(outputs);
    sides.push_back((side_of(input) + 2 * padding - kernel) / stride + 1);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      layers[i].weights = kept[2 * i].data();
      layers[i].bias = kept[2 * i + 1].data();
    }
    return *this;
  }

  firewall_network* open() const {
    firewall_network* made = nullptr;
    EXPECT(firewall_network_open(&made, side, prepare, first, second, layers.data(),
                                 static_cast<std::int32_t>(layers.size())) == FIREWALL_OK);
    return made;
  }

  std::size_t input_size() const { return static_cast<std::size_t>(3 * side * side); }
};

// Everything in double precision and in the order of the definition; planes x rows x columns.
std::vector<double> expected(const Network& network, const float* input) {
  const int side = network.side;
  const auto pixel = [&](const std::vector<double>& image, int across, int c, int y, int x) {
    return image[static_cast<std::size_t>((c * across + y) * across + x)];
  };
  std::vector<double> prepared(input, input + network.input_size());
  if (network.prepare == FIREWALL_PREPARE_SHIFTED) {
    for (double& each : prepared)
      each = (each - static_cast<double>(network.first)) * static_cast<double>(network.second);
  } else {
    const int reach = static_cast<int>(network.first) / 2;
    const auto mean = [&](const std::vector<double>& image, int c, int y, int x) {
      double sum = 0;
      int count = 0;
      for (int v = std::max(0, y - reach); v <= std::min(side - 1, y + reach); ++v) {
        for (int u = std::max(0, x - reach); u <= std::min(side - 1, x + reach); ++u, ++count) {
          sum += pixel(image, side, c, v, u);
        }
      }
      return sum / count;
    };
    const std::vector<double> original = prepared;
    std::vector<double> squares(static_cast<std::size_t>(side * side), 0);
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < side; ++y) {
        for (int x = 0; x < side; ++x) {
          double& value = prepared[static_cast<std::size_t>((c * side + y) * side + x)];
          value = pixel(original, side, c, y, x) - mean(original, c, y, x);
          squares[static_cast<std::size_t>(y * side + x)] += value * value / 3;
        }
      }
    }
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        const double deviation = std::sqrt(mean(squares, 0, y, x) + static_cast<double>(network.second));
        for (int c = 0; c < 3; ++c) prepared[static_cast<std::size_t>((c * side + y) * side + x)] /= deviation;
      }
    }
  }
  std::vector<std::vector<double>> outputs;
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const firewall_layer& layer = network.layers[i];
    const std::vector<double>& from = layer.input < 0 ? prepared : outputs[static_cast<std::size_t>(layer.input)];
    const int inputs = network.before(layer.input), wide = network.side_of(layer.input), high = network.sides[i];
    std::vector<double> made(static_cast<std::size_t>(layer.channels * high * high));
    for (int o = 0; o < layer.channels; ++o) {
      for (int y = 0; y < high; ++y) {
        for (int x = 0; x < high; ++x) {
          double sum = static_cast<double>(layer.bias[o]);
          const bool whole = layer.kind == FIREWALL_LAYER_WHOLE;
          const int only = whole ? o / (layer.channels / inputs) : 0;
          for (int c = whole ? only : 0; c < (whole ? only + 1 : inputs); ++c) {
            for (int v = 0; v < layer.kernel; ++v) {
              for (int u = 0; u < layer.kernel; ++u) {
                const int row = y * layer.stride + v - layer.padding, column = x * layer.stride + u - layer.padding;
                if (row < 0 || column < 0 || row >= wide || column >= wide) continue;
                const int plane = whole ? o : o * inputs + c;
                sum += static_cast<double>(layer.weights[(plane * layer.kernel + v) * layer.kernel + u]) *
                       pixel(from, wide, c, row, column);
              }
            }
          }
          const auto at = static_cast<std::size_t>((o * high + y) * high + x);
          if (layer.added >= 0) sum += outputs[static_cast<std::size_t>(layer.added)][at];
          made[at] = layer.rectified != 0 && sum < 0 ? 0 : sum;
        }
      }
    }
    outputs.push_back(std::move(made));
  }
  return outputs.back();
}

constexpr int kConvolution = FIREWALL_LAYER_CONVOLUTION, kWhole = FIREWALL_LAYER_WHOLE;

// All kinds of layers; tiles of 4 (24, 12), of 3 (6) and of 2; groups of 1 to 5.
std::vector<Network> networks() {
  std::vector<Network> made;
  made.emplace_back(48, FIREWALL_PREPARE_SHIFTED, 0.4F, 3.5F);
  made.back()
      .add(kConvolution, -1, -1, 32, 5, 2, 2, true)
      .add(kConvolution, 0, -1, 32, 3, 1, 1, true)
      .add(kConvolution, 1, -1, 64, 3, 2, 1, true)
      .add(kConvolution, 2, -1, 64, 3, 1, 1, true)
      .add(kConvolution, 3, 2, 64, 3, 1, 1, true)
      .add(kConvolution, 4, -1, 80, 3, 2, 1, true)
      .add(kConvolution, 5, -1, 80, 3, 1, 1, true)
      .add(kConvolution, 6, 5, 80, 3, 1, 1, true)
      .add(kWhole, 7, -1, 160, 6, 1, 0, true)
      .add(kConvolution, 8, -1, 43, 1, 1, 0, false);
  made.emplace_back(20, FIREWALL_PREPARE_LOCAL_CONTRAST, 5.0F, 0.0016F);
  made.back()
      .add(kConvolution, -1, -1, 48, 3, 2, 1, false)
      .add(kConvolution, 0, 0, 48, 3, 1, 1, false)
      .add(kConvolution, 1, -1, 16, 3, 1, 0, true)
      .add(kConvolution, 2, -1, 7, 8, 1, 0, true);
  made.emplace_back(11, FIREWALL_PREPARE_LOCAL_CONTRAST, 63.0F, 0.5F);
  made.back().add(kConvolution, -1, -1, 16, 2, 1, 0, true).add(kConvolution, 0, -1, 16, 3, 1, 1, true);
  made.back().add(kConvolution, 1, 0, 16, 3, 1, 1, true).add(kWhole, 2, -1, 48, 10, 1, 0, false);
  return made;
}

constexpr int kImages = 19;  // more than go through the layers together, twice

void right_and_the_same_everywhere() {
  using firewall::SimdLevel;
  for (Network& network : networks()) {
    const auto outputs = static_cast<std::size_t>(network.channels.back());
    const Numbers input = network.random.numbers(kImages * network.input_size(), 2.0F);
    firewall_network* opened = network.open();
    EXPECT(firewall_network_outputs(opened) == network.channels.back());
    Numbers first;
    for (const SimdLevel level :
         {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512, SimdLevel::neon, firewall::simd_level()}) {
      if (!firewall::use_network_loops(level)) continue;
      Numbers output(kImages * outputs, std::numeric_limits<float>::quiet_NaN());
      EXPECT(firewall_network_run(opened, output.data(), input.data(), kImages) == FIREWALL_OK);
      if (first.empty()) first = output;
      EXPECT(std::memcmp(first.data(), output.data(), output.size() * sizeof(float)) == 0);
      // Alone, and by one that shares the weights: the same bits.
      firewall_network* other = nullptr;
      EXPECT(firewall_network_share(&other, opened) == FIREWALL_OK);
      for (int n : {0, 9, kImages - 1}) {
        Numbers alone(outputs);
        const auto at = static_cast<std::size_t>(n);
        EXPECT(firewall_network_run(other, alone.data(), input.data() + at * network.input_size(), 1) == FIREWALL_OK);
        EXPECT(std::memcmp(alone.data(), first.data() + at * outputs, outputs * sizeof(float)) == 0);
      }
      firewall_network_close(other);
    }
    for (int n : {0, kImages - 1}) {
      const auto at = static_cast<std::size_t>(n);
      const std::vector<double> sums = expected(network, input.data() + at * network.input_size());
      double largest = 1;
      for (double each : sums) largest = std::max(largest, std::fabs(each));
      for (std::size_t i = 0; i < outputs; ++i) {
        EXPECT(std::fabs(static_cast<double>(first[at * outputs + i]) - sums[i]) <= 2e-5 * largest);
      }
    }
    firewall_network_close(opened);
  }
}

void nan_stays() {
  for (Network& network : networks()) {
    firewall_network* opened = network.open();
    Numbers input = network.random.numbers(network.input_size(), 1.0F);
    input[input.size() / 2] = std::numeric_limits<float>::quiet_NaN();
    Numbers output(static_cast<std::size_t>(network.channels.back()));
    EXPECT(firewall_network_run(opened, output.data(), input.data(), 1) == FIREWALL_OK);
    EXPECT(std::any_of(output.begin(), output.end(), [](float x) { return std::isnan(x); }));
    firewall_network_close(opened);
  }
}

void allocates_nothing_while_it_runs() {
  for (Network& network : networks()) {
    firewall_network* opened = network.open();
    const Numbers input = network.random.numbers(kImages * network.input_size(), 1.0F);
    Numbers output(kImages * static_cast<std::size_t>(network.channels.back()));
    const long before = firewall::testing::allocations();
    for (int count : {kImages, 1, 3, 8, kImages}) firewall_network_run(opened, output.data(), input.data(), count);
    EXPECT(firewall::testing::allocations() == before);
    firewall_network_close(opened);
  }
  const long before = firewall::testing::allocations();
  firewall_network_close(networks().front().open());
  EXPECT(firewall::testing::allocations() > before);  // the counter counts
}

void refuses() {
  const std::vector<Network> all = networks();
  const Network& good = all.front();
  const auto count = static_cast<std::int32_t>(good.layers.size());
  firewall_network* made = nullptr;
  const auto status = [&](const std::vector<firewall_layer>& layers, int side = 48, int prepare = 0, float first = 0,
                          float second = 1) {
    const int found = firewall_network_open(&made, side, prepare, first, second, layers.data(),
                                            static_cast<std::int32_t>(layers.size()));
    EXPECT((made == nullptr) == (found != FIREWALL_OK));
    firewall_network_close(made);
    return found;
  };
  EXPECT(status(good.layers) == FIREWALL_OK);
  EXPECT(firewall_network_open(nullptr, 48, 0, 0, 1, good.layers.data(), count) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_network_open(&made, 48, 0, 0, 1, nullptr, count) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_network_open(&made, 48, 0, 0, 1, good.layers.data(), 0) == FIREWALL_BAD_SIZE);
  EXPECT(status(good.layers, 0) == FIREWALL_BAD_SIZE);
  EXPECT(status(good.layers, 257) == FIREWALL_BAD_SIZE);
  EXPECT(status(good.layers, 47) == FIREWALL_OK);  // as large after the first layer
  EXPECT(status(good.layers, 40) == FIREWALL_BAD_SIZE);
  EXPECT(status(good.layers, 48, 2) == FIREWALL_BAD_PARAMETER);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT(status(good.layers, 48, 0, nan) == FIREWALL_BAD_PARAMETER);
  for (const float window : {0.0F, 2.0F, 2.5F, 65.0F, -1.0F, 1e30F}) {
    EXPECT(status(good.layers, 48, 1, window, 1) == FIREWALL_BAD_PARAMETER);
  }
  EXPECT(status(good.layers, 48, 1, 3, 0) == FIREWALL_BAD_PARAMETER);
  Network heavy(16, 0, 0, 1), wide(256, 0, 0, 1);
  heavy.add(kConvolution, -1, -1, 512, 3, 1, 1, true).add(kConvolution, 0, -1, 512, 3, 1, 1, true);
  heavy.add(kConvolution, 1, -1, 512, 3, 1, 1, true);  // 2 x 36 x 512 x 512 weights
  wide.add(kConvolution, -1, -1, 32, 3, 1, 1, true).add(kConvolution, 0, -1, 16, 3, 4, 0, true);
  wide.add(kConvolution, 1, -1, 16, 3, 4, 0, true).add(kWhole, 2, -1, 16, 16, 1, 0, true);
  EXPECT(status(heavy.layers, 16) == FIREWALL_BAD_SIZE);
  EXPECT(status(wide.layers, 256) == FIREWALL_BAD_SIZE);
  std::vector<firewall_layer> many(65, good.layers[0]);
  EXPECT(status(many) == FIREWALL_BAD_SIZE);
  EXPECT(status({good.layers.begin(), good.layers.end() - 2}) == FIREWALL_BAD_SIZE);  // ends with an image

  const auto changed = [&](std::size_t which, auto member, auto value) {
    std::vector<firewall_layer> layers = good.layers;
    layers[which].*member = value;
    return status(layers);
  };
  EXPECT(changed(0, &firewall_layer::kind, 2) == FIREWALL_BAD_PARAMETER);
  EXPECT(changed(1, &firewall_layer::weights, nullptr) == FIREWALL_NULL_POINTER);
  EXPECT(changed(1, &firewall_layer::bias, nullptr) == FIREWALL_NULL_POINTER);
  EXPECT(changed(1, &firewall_layer::input, 1) == FIREWALL_BAD_SIZE);
  EXPECT(changed(1, &firewall_layer::input, -2) == FIREWALL_BAD_SIZE);
  EXPECT(changed(4, &firewall_layer::added, 4) == FIREWALL_BAD_SIZE);
  EXPECT(changed(4, &firewall_layer::added, 1) == FIREWALL_BAD_SIZE);
  EXPECT(changed(8, &firewall_layer::added, 0) == FIREWALL_BAD_SIZE);
  for (const int channels : {0, -16, 24, 528})
    EXPECT(changed(1, &firewall_layer::channels, channels) == FIREWALL_BAD_SIZE);
  for (const int kernel : {0, -1, 17, 100}) EXPECT(changed(1, &firewall_layer::kernel, kernel) != FIREWALL_OK);
  for (const int stride : {0, 5}) EXPECT(changed(1, &firewall_layer::stride, stride) == FIREWALL_BAD_SIZE);
  for (const int padding : {-1, 3}) EXPECT(changed(1, &firewall_layer::padding, padding) == FIREWALL_BAD_SIZE);
  EXPECT(changed(8, &firewall_layer::kernel, 5) == FIREWALL_BAD_SIZE);
  EXPECT(changed(8, &firewall_layer::padding, 1) == FIREWALL_BAD_SIZE);
  EXPECT(changed(8, &firewall_layer::channels, 96) == FIREWALL_BAD_SIZE);
  for (const std::size_t which : {std::size_t{2}, std::size_t{3}}) {
    std::vector<Numbers> bad = good.kept;
    bad[which][5] = std::numeric_limits<float>::infinity();
    std::vector<firewall_layer> layers = good.layers;
    layers[1].weights = bad[2].data();
    layers[1].bias = bad[3].data();
    EXPECT(status(layers) == FIREWALL_BAD_PARAMETER);
  }

  firewall_network* opened = good.open();
  float number = 0;
  EXPECT(firewall_network_run(nullptr, &number, &number, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_network_run(opened, nullptr, &number, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_network_run(opened, &number, nullptr, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_network_run(opened, &number, &number, -1) == FIREWALL_BAD_SIZE);
  EXPECT(firewall_network_run(opened, nullptr, nullptr, 0) == FIREWALL_OK);
  EXPECT(firewall_network_share(nullptr, opened) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_network_share(&made, nullptr) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_network_outputs(nullptr) == 0);
  firewall_network_close(opened);
  firewall_network_close(nullptr);
}

}  // namespace

int main() {
  right_and_the_same_everywhere();
  nan_stays();
  allocates_nothing_while_it_runs();
  refuses();
  if (firewall::testing::failures == 0) std::puts("networks: all as expected");
  return firewall::testing::failures == 0 ? 0 : 1;
}
