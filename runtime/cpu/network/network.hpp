// A network, made ready to run. Internal; firewall/network.h is the interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "firewall/network.h"

namespace firewall {

// Images that go through the layers together: enough to read each weight seldom, and few enough for the cache.
inline constexpr std::size_t kTogether = 8;
// Tiles whose products are computed together.
inline constexpr std::size_t kTiles = 18;

struct Layer {
  std::int32_t kind;
  std::int32_t input, added;
  std::size_t slot;                      // where the output lies
  std::size_t side, channels;            // of the output; channels filled up to a multiple of kGroup
  std::size_t from_side, from_channels;  // of the input
  std::size_t kernel, stride, padding;
  int tile;  // of Winograd's filtering; 0: direct
  bool rectified;
  std::vector<float> weights, bias;

  std::size_t groups() const noexcept { return channels / 16; }
  std::size_t size() const noexcept { return side * side * channels; }  // floats of one image
  std::size_t padded() const noexcept { return from_side + 2 * padding; }
};

// The layers, which several runs at a time may read.
struct Model {
  std::size_t side = 0;
  std::int32_t prepare = 0;
  float first = 0, second = 0;
  std::size_t outputs = 0;
  std::vector<Layer> layers;
  std::size_t slots = 0;
  // Floats: of one image in a slot and padded, and of the tiles before and after the products.
  std::size_t slot_size = 0, padded_size = 0, before_size = 0, after_size = 0;
};

inline std::size_t places_of(int tile) noexcept {
  return static_cast<std::size_t>(tile + 2) * static_cast<std::size_t>(tile + 2);
}

// Floats of scratch that a run needs.
std::size_t own_memory(const Model& model) noexcept;

// Fills an empty model, as firewall_network_open says.
int open(Model& network, std::int32_t side, std::int32_t prepare, float first, float second,
         const firewall_layer* layers, std::int32_t layers_count);

}  // namespace firewall

struct firewall_network {
  std::shared_ptr<const firewall::Model> model;
  std::vector<float> slots;    // kTogether images each
  std::vector<float> input;    // pixels x 3 of kTogether images
  std::vector<float> scratch;  // of `prepare`, of padded images, and of tiles
};
