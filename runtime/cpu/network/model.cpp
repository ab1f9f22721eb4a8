// What a network is asked to be becomes what is run: weights in the order in which they are read, and where outputs
// lie.
#include <algorithm>
#include <cmath>
#include <utility>

#include "loops.hpp"
#include "network.hpp"
#include "prepare.hpp"
#include "tiles.hpp"

namespace firewall {
namespace {

bool all_finite(const float* numbers, std::size_t count) noexcept {
  return std::all_of(numbers, numbers + count, [](float x) { return std::isfinite(x); });
}

int tile_of(const Layer& layer) noexcept {
  if (layer.kernel != 3 || layer.stride != 1 || layer.padding != 1 || layer.from_channels % kGroup != 0) return 0;
  return layer.side % 4 == 0 ? 4 : layer.side % 2 == 0 ? 2 : layer.side % 3 == 0 ? 3 : 0;
}

template <int N>
void filter(double* result, const float* kernel) noexcept {
  double half[N + 2][3];
  for (int i = 0; i < N + 2; ++i) {
    for (int x = 0; x < 3; ++x) {
      half[i][x] = 0;
      for (int y = 0; y < 3; ++y) half[i][x] += Tile<N>::filter[i][y] * static_cast<double>(kernel[3 * y + x]);
    }
  }
  for (int i = 0; i < N + 2; ++i) {
    for (int j = 0; j < N + 2; ++j) {
      double sum = 0;
      for (int x = 0; x < 3; ++x) sum += Tile<N>::filter[j][x] * half[i][x];
      result[i * (N + 2) + j] = sum;
    }
  }
}

// Weights in the order in which the products read them: [place][group][input][lane], one place if it is direct.
void pack(Layer& layer, const float* weights, std::size_t channels) {
  const std::size_t inputs = layer.from_channels, window = layer.kernel * layer.kernel;
  if (layer.kind == FIREWALL_LAYER_WHOLE) {
    const std::size_t copies = channels / inputs;
    layer.weights.assign(window * channels, 0);
    for (std::size_t c = 0; c < channels; ++c) {
      const std::size_t at = (c % copies) * inputs + c / copies;
      for (std::size_t i = 0; i < window; ++i) layer.weights[i * channels + at] = weights[c * window + i];
    }
  } else if (layer.tile == 0) {
    layer.weights.assign(layer.channels * inputs * window, 0);
    for (std::size_t c = 0; c < channels; ++c) {
      float* group = &layer.weights[(c / kGroup) * window * inputs * kGroup + c % kGroup];
      for (std::size_t i = 0; i < inputs; ++i) {
        for (std::size_t w = 0; w < window; ++w) {
          group[(w * inputs + i) * kGroup] = weights[(c * inputs + i) * window + w];
        }
      }
    }
  } else {
    const std::size_t places = places_of(layer.tile);
    layer.weights.assign(places * layer.channels * inputs, 0);
    for (std::size_t c = 0; c < channels; ++c) {
      for (std::size_t i = 0; i < inputs; ++i) {
        double numbers[36];
        const float* kernel = weights + (c * inputs + i) * window;
        (layer.tile == 2 ? filter<2> : layer.tile == 3 ? filter<3> : filter<4>)(numbers, kernel);
        for (std::size_t p = 0; p < places; ++p) {
          layer.weights[((p * layer.groups() + c / kGroup) * inputs + i) * kGroup + c % kGroup] =
              static_cast<float>(numbers[p]);
        }
      }
    }
  }
}

// What the layers' numbers are before the slots are known; FIREWALL_OK if they fit together.
int add_layer(Model& network, const firewall_layer& asked, bool last) {
  const auto number = static_cast<std::int32_t>(network.layers.size());
  if (asked.kind != FIREWALL_LAYER_CONVOLUTION && asked.kind != FIREWALL_LAYER_WHOLE) return FIREWALL_BAD_PARAMETER;
  if (asked.weights == nullptr || asked.bias == nullptr) return FIREWALL_NULL_POINTER;
  if (asked.input < -1 || asked.input >= number || asked.added < -1 || asked.added >= number) return FIREWALL_BAD_SIZE;
  if (asked.channels < 1 || asked.channels > FIREWALL_NETWORK_MOST_CHANNELS || asked.stride < 1 || asked.stride > 4 ||
      asked.padding < 0 || asked.padding >= asked.kernel || (!last && asked.channels % 16 != 0)) {
    return FIREWALL_BAD_SIZE;
  }
  Layer layer{};
  layer.kind = asked.kind;
  layer.input = asked.input;
  layer.added = asked.added;
  layer.rectified = asked.rectified != 0;
  layer.kernel = static_cast<std::size_t>(asked.kernel);
  layer.stride = static_cast<std::size_t>(asked.stride);
  layer.padding = static_cast<std::size_t>(asked.padding);
  const auto channels = static_cast<std::size_t>(asked.channels);
  layer.channels = (channels + kGroup - 1) / kGroup * kGroup;
  if (asked.input < 0) {
    layer.from_side = network.side;
    layer.from_channels = 3;
  } else {
    const Layer& from = network.layers[static_cast<std::size_t>(asked.input)];
    layer.from_side = from.side;
    layer.from_channels = from.channels;
  }
  if (layer.kernel > layer.padded()) return FIREWALL_BAD_SIZE;
  layer.side = (layer.padded() - layer.kernel) / layer.stride + 1;
  std::size_t numbers = channels * layer.kernel * layer.kernel;
  if (asked.kind == FIREWALL_LAYER_WHOLE) {
    if (layer.kernel != layer.from_side || layer.padding != 0 || layer.from_channels % kGroup != 0 ||
        channels % layer.from_channels != 0 || layer.added >= 0) {
      return FIREWALL_BAD_SIZE;
    }
  } else {
    if (layer.kernel > 16) return FIREWALL_BAD_SIZE;
    numbers *= layer.from_channels;
  }
  if (layer.added >= 0) {
    const Layer& added = network.layers[static_cast<std::size_t>(layer.added)];
    if (added.side != layer.side || added.channels != layer.channels) return FIREWALL_BAD_SIZE;
  }
  if (!all_finite(asked.weights, numbers) || !all_finite(asked.bias, channels)) return FIREWALL_BAD_PARAMETER;
  layer.tile = layer.kind == FIREWALL_LAYER_CONVOLUTION ? tile_of(layer) : 0;
  // What `pack` makes of the weights, with those of the layers before.
  std::size_t weights = layer.tile == 0 ? numbers / channels * layer.channels
                                        : places_of(layer.tile) * layer.channels * layer.from_channels;
  for (const Layer& before : network.layers) weights += before.weights.size();
  if (weights > FIREWALL_NETWORK_MOST_NUMBERS) return FIREWALL_BAD_SIZE;
  pack(layer, asked.weights, channels);
  layer.bias.assign(layer.channels, 0);
  if (layer.kind == FIREWALL_LAYER_WHOLE) {
    const std::size_t copies = channels / layer.from_channels;
    for (std::size_t c = 0; c < channels; ++c)
      layer.bias[(c % copies) * layer.from_channels + c / copies] = asked.bias[c];
  } else {
    std::copy(asked.bias, asked.bias + channels, layer.bias.begin());
  }
  network.layers.push_back(std::move(layer));
  return FIREWALL_OK;
}

// Outputs that nobody reads any more give their memory to later ones.
void place(Model& network) {
  std::vector<Layer>& layers = network.layers;
  std::vector<std::size_t> last(layers.size(), 0);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    last[i] = std::max(last[i], i);
    for (const std::int32_t read : {layers[i].input, layers[i].added}) {
      if (read >= 0) last[static_cast<std::size_t>(read)] = i;
    }
  }
  std::vector<std::size_t> free_after;  // of each slot
  for (std::size_t i = 0; i < layers.size(); ++i) {
    std::size_t slot = 0;
    while (slot < free_after.size() && free_after[slot] >= i) ++slot;
    if (slot == free_after.size()) free_after.push_back(0);
    free_after[slot] = last[i];
    layers[i].slot = slot;
    network.slot_size = std::max(network.slot_size, layers[i].size());
    const std::size_t padded = layers[i].padded();
    network.padded_size = std::max(network.padded_size, padded * padded * layers[i].from_channels);
  }
  for (const Layer& layer : layers) {
    if (layer.tile == 0) continue;
    const std::size_t numbers = places_of(layer.tile) * kTiles;
    network.before_size = std::max(network.before_size, numbers * layer.from_channels);
    network.after_size = std::max(network.after_size, numbers * layer.channels);
  }
  network.slots = free_after.size();
}

}  // namespace

std::size_t own_memory(const Model& model) noexcept {
  const std::size_t tiles = model.before_size + model.after_size;
  return std::max(kTogether * model.padded_size + tiles, contrast_memory(model.side));
}

int open(Model& network, std::int32_t side, std::int32_t prepare, float first, float second,
         const firewall_layer* layers, std::int32_t layers_count) {
  if (side < 1 || side > FIREWALL_NETWORK_MOST_SIDE || layers_count < 1 ||
      layers_count > FIREWALL_NETWORK_MOST_LAYERS) {
    return FIREWALL_BAD_SIZE;
  }
  if (!std::isfinite(first) || !std::isfinite(second)) return FIREWALL_BAD_PARAMETER;
  if (prepare == FIREWALL_PREPARE_LOCAL_CONTRAST) {
    const auto window = static_cast<std::int32_t>(std::min(std::max(first, 0.0F), 64.0F));
    if (static_cast<float>(window) != first || window % 2 == 0 || window > 63 || !(second > 0)) {
      return FIREWALL_BAD_PARAMETER;
    }
  } else if (prepare != FIREWALL_PREPARE_SHIFTED) {
    return FIREWALL_BAD_PARAMETER;
  }
  network.side = static_cast<std::size_t>(side);
  network.prepare = prepare;
  network.first = first;
  network.second = second;
  for (std::int32_t i = 0; i < layers_count; ++i) {
    const int status = add_layer(network, layers[i], i + 1 == layers_count);
    if (status != FIREWALL_OK) return status;
  }
  if (network.layers.back().side != 1) return FIREWALL_BAD_SIZE;
  network.outputs = static_cast<std::size_t>(layers[layers_count - 1].channels);
  place(network);
  std::size_t numbers = own_memory(network) + network.slots * kTogether * network.slot_size;
  for (const Layer& layer : network.layers) numbers += layer.weights.size();
  return numbers > FIREWALL_NETWORK_MOST_NUMBERS ? FIREWALL_BAD_SIZE : FIREWALL_OK;
}

}  // namespace firewall
