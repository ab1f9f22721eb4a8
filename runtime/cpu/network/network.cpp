#include "network.hpp"

#include <algorithm>
#include <memory>
#include <new>

#include "loops.hpp"
#include "prepare.hpp"

namespace firewall {
namespace {

// Steps of a direct product by which its weights are fetched ahead of their use.
constexpr std::size_t kAhead = 12;

std::ptrdiff_t apart(std::size_t value) noexcept { return static_cast<std::ptrdiff_t>(value); }

// Memory of its own for what shares the layers.
std::unique_ptr<firewall_network> ready(std::shared_ptr<const Model> model) {
  auto network = std::make_unique<firewall_network>();
  network->slots.resize(model->slots * kTogether * model->slot_size);
  network->input.resize(kTogether * 3 * model->side * model->side);
  network->scratch.resize(own_memory(*model));
  network->model = std::move(model);
  return network;
}

// Runs the layers on `count` images, at most kTogether.
class Run {
 public:
  Run(firewall_network& network, std::size_t count) noexcept
      : network_(network), model_(*network.model), count_(count), loops_(network_loops()) {}

  void prepare(const float* input) noexcept {
    const std::size_t pixels = model_.side * model_.side;
    for (std::size_t n = 0; n < count_; ++n) {
      float* destination = network_.input.data() + n * 3 * pixels;
      const float* planes = input + n * 3 * pixels;
      if (model_.prepare == FIREWALL_PREPARE_SHIFTED) {
        prepare_shifted(destination, planes, pixels, model_.first, model_.second);
      } else {
        prepare_local_contrast(destination, planes, model_.side, static_cast<std::size_t>(model_.first), model_.second,
                               network_.scratch.data());
      }
    }
  }

  void layer(const Layer& layer) noexcept {
    if (layer.kind == FIREWALL_LAYER_WHOLE) {
      whole(layer);
      return;
    }
    pad(layer);
    if (layer.tile == 0) {
      direct(layer);
    } else {
      tiled(layer);
    }
  }

  void give(float* output) const noexcept {
    const Layer& last = model_.layers.back();
    for (std::size_t n = 0; n < count_; ++n) {
      std::copy_n(image(last, n), model_.outputs, output + n * model_.outputs);
    }
  }

 private:
  float* image(const Layer& layer, std::size_t n) const noexcept {
    return network_.slots.data() + (layer.slot * kTogether + n) * model_.slot_size;
  }

  const float* source(const Layer& layer, std::size_t n) const noexcept {
    if (layer.input < 0) return network_.input.data() + n * 3 * model_.side * model_.side;
    return image(model_.layers[static_cast<std::size_t>(layer.input)], n);
  }

  const float* added(const Layer& layer, std::size_t n) const noexcept {
    return layer.added < 0 ? nullptr : image(model_.layers[static_cast<std::size_t>(layer.added)], n);
  }

  // The input with zeros around it, or as it is where none are asked for.
  const float* padded(const Layer& layer, std::size_t n) const noexcept {
    return layer.padding == 0 ? source(layer, n) : network_.scratch.data() + n * model_.padded_size;
  }

  void pad(const Layer& layer) noexcept {
    if (layer.padding == 0) return;
    const std::size_t row = layer.from_side * layer.from_channels, line = layer.padded() * layer.from_channels;
    const std::size_t edge = layer.padding * layer.from_channels;
    for (std::size_t n = 0; n < count_; ++n) {
      float* to = network_.scratch.data() + n * model_.padded_size;
      const float* from = source(layer, n);
      std::fill_n(to, layer.padding * line + edge, 0.0F);
      to += layer.padding * line + edge;
      for (std::size_t y = 0; y < layer.from_side; ++y) {
        std::copy_n(from + y * row, row, to);
        to += row;
        std::fill_n(to, y + 1 < layer.from_side ? 2 * edge : edge + layer.padding * line, 0.0F);
        to += 2 * edge;
      }
    }
  }

  void multiply(Product& product, const Layer& layer, std::size_t inputs, int rows, const float* weights,
                bool finished) noexcept {
    const std::size_t column = inputs * kGroup;
    product.column = apart(column);
    for (std::size_t group = 0; group < layer.groups();) {
      const std::size_t groups = std::min(layer.groups() - group, static_cast<std::size_t>(loops_.columns));
      product.weights = weights + group * column;
      product.bias = finished ? layer.bias.data() + group * kGroup : nullptr;
      loops_.multiply(product, rows, static_cast<int>(groups));
      group += groups;
      for (int row = 0; row < rows; ++row) {
        product.results[row] += groups * kGroup;
        if (product.added[row] != nullptr) product.added[row] += groups * kGroup;
      }
    }
  }

  void direct(const Layer& layer) noexcept {
    const std::size_t line = layer.padded() * layer.from_channels, pixels = layer.side * layer.side;
    Product product{};
    product.segments = static_cast<int>(layer.kernel);
    product.length = apart(layer.kernel * layer.from_channels);
    product.apart = apart(line);
    product.ahead = apart(kAhead * kGroup);
    product.rectified = layer.rectified;
    const std::size_t inputs = layer.kernel * layer.kernel * layer.from_channels, all = count_ * pixels;
    for (std::size_t at = 0; at < all;) {
      int rows = 0;
      for (; rows < kRows && at < all; ++rows, ++at) {
        const std::size_t n = at / pixels, pixel = at % pixels;
        const std::size_t y = pixel / layer.side, x = pixel % layer.side;
        product.rows[rows] = padded(layer, n) + layer.stride * (y * line + x * layer.from_channels);
        product.results[rows] = image(layer, n) + pixel * layer.channels;
        product.added[rows] = layer.added < 0 ? nullptr : added(layer, n) + pixel * layer.channels;
      }
      multiply(product, layer, inputs, rows, layer.weights.data(), true);
    }
  }

  void tiled(const Layer& layer) noexcept {
    const auto tile = static_cast<std::size_t>(layer.tile);
    const std::size_t across = layer.side / tile, each = across * across, places = places_of(layer.tile);
    const std::size_t line = layer.padded() * layer.from_channels, row = layer.side * layer.channels;
    float* before = network_.scratch.data() + kTogether * model_.padded_size;
    float* after = before + model_.before_size;
    const std::size_t all = count_ * each;
    for (std::size_t start = 0; start < all; start += kTiles) {
      const std::size_t tiles = std::min(kTiles, all - start);
      for (std::size_t t = 0; t < tiles; ++t) {
        const std::size_t n = (start + t) / each, y = (start + t) % each / across, x = (start + t) % across;
        const float* corner = padded(layer, n) + tile * (y * line + x * layer.from_channels);
        loops_.into(before + t * layer.from_channels, apart(tiles * layer.from_channels), corner, apart(line),
                    apart(layer.from_channels), layer.tile);
      }
      Product product{};
      product.segments = 1;
      product.length = apart(layer.from_channels);
      product.ahead = apart(layer.channels * layer.from_channels);  // of the next place
      for (std::size_t place = 0; place < places; ++place) {
        for (std::size_t t = 0; t < tiles;) {
          int rows = 0;
          for (; rows < kRows && t < tiles; ++rows, ++t) {
            product.rows[rows] = before + (place * tiles + t) * layer.from_channels;
            product.results[rows] = after + (place * tiles + t) * layer.channels;
          }
          multiply(product, layer, layer.from_channels, rows,
                   layer.weights.data() + place * layer.channels * layer.from_channels, false);
        }
      }
      for (std::size_t t = 0; t < tiles; ++t) {
        const std::size_t n = (start + t) / each, y = (start + t) % each / across, x = (start + t) % across;
        const std::size_t at = tile * (y * row + x * layer.channels);
        const float* more = added(layer, n);
        loops_.out_of(image(layer, n) + at, apart(row), after + t * layer.channels, apart(tiles * layer.channels),
                      apart(layer.channels), layer.tile, layer.bias.data(), more == nullptr ? nullptr : more + at,
                      layer.rectified);
      }
    }
  }

  void whole(const Layer& layer) noexcept {
    const std::size_t channels = layer.from_channels, copies = layer.channels / channels;
    float* together = network_.scratch.data();
    for (std::size_t n = 0; n < count_; ++n) {
      loops_.whole(together, source(layer, n), apart(layer.kernel * layer.kernel), apart(channels),
                   static_cast<int>(copies), layer.weights.data(), layer.bias.data(), layer.rectified);
      float* result = image(layer, n);
      for (std::size_t copy = 0; copy < copies; ++copy) {
        for (std::size_t c = 0; c < channels; ++c) result[c * copies + copy] = together[copy * channels + c];
      }
    }
  }

  firewall_network& network_;
  const Model& model_;
  std::size_t count_;
  const NetworkLoops& loops_;
};

}  // namespace
}  // namespace firewall

int firewall_network_open(firewall_network** network, int32_t side, int32_t prepare, float first, float second,
                          const firewall_layer* layers, int32_t layers_count) {
  if (network == nullptr) return FIREWALL_NULL_POINTER;
  *network = nullptr;
  if (layers == nullptr) return FIREWALL_NULL_POINTER;
  try {
    auto model = std::make_shared<firewall::Model>();
    const int status = firewall::open(*model, side, prepare, first, second, layers, layers_count);
    if (status == FIREWALL_OK) *network = firewall::ready(std::move(model)).release();
    return status;
  } catch (const std::bad_alloc&) {
    return FIREWALL_BAD_SIZE;
  }
}

int firewall_network_share(firewall_network** network, const firewall_network* other) {
  if (network == nullptr) return FIREWALL_NULL_POINTER;
  *network = nullptr;
  if (other == nullptr) return FIREWALL_NULL_POINTER;
  try {
    *network = firewall::ready(other->model).release();
    return FIREWALL_OK;
  } catch (const std::bad_alloc&) {
    return FIREWALL_BAD_SIZE;
  }
}

void firewall_network_close(firewall_network* network) { delete network; }

int32_t firewall_network_outputs(const firewall_network* network) {
  return network == nullptr ? 0 : static_cast<int32_t>(network->model->outputs);
}

int firewall_network_run(firewall_network* network, float* output, const float* input, int32_t count) {
  using namespace firewall;
  if (network == nullptr || (count > 0 && (output == nullptr || input == nullptr))) return FIREWALL_NULL_POINTER;
  if (count < 0) return FIREWALL_BAD_SIZE;
  const Model& model = *network->model;
  const std::size_t numbers = 3 * model.side * model.side, all = static_cast<std::size_t>(count);
  for (std::size_t start = 0; start < all; start += kTogether) {
    Run run(*network, std::min(kTogether, all - start));
    run.prepare(input + start * numbers);
    for (const Layer& layer : model.layers) run.layer(layer);
    run.give(output + start * model.outputs);
  }
  return FIREWALL_OK;
}
