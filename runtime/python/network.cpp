// Small networks. Shapes and types are refused by the signatures, the rest by the C interface.
#include "network.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "../cpu/network/loops.hpp"
#include "calls.hpp"
#include "firewall/network.h"

namespace nb = nanobind;

namespace {

using Numbers = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<const float, nb::shape<-1, 3, -1, -1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

struct Layer {
  firewall_layer layer;
  std::size_t weights;
  Numbers kept_weights, kept_bias;
};

Layer layer(int kind, int input, int added, int kernel, int stride, int padding, bool rectified, const Numbers& weights,
            const Numbers& bias) {
  const auto channels = static_cast<std::int32_t>(bias.shape(0));
  return {{kind, input, added, channels, kernel, stride, padding, rectified ? 1 : 0, weights.data(), bias.data()},
          weights.shape(0),
          weights,
          bias};
}

class Network {
 public:
  Network(int side, int prepare, float first, float second, const std::vector<Layer>& layers) : side_(side) {
    std::vector<firewall_layer> plain;
    for (const Layer& each : layers) {
      // So many weights will be read.
      const firewall_layer& asked = each.layer;
      std::size_t numbers = static_cast<std::size_t>(asked.channels) * static_cast<std::size_t>(asked.kernel) *
                            static_cast<std::size_t>(asked.kernel);
      if (asked.kind == FIREWALL_LAYER_CONVOLUTION) {
        if (asked.input >= static_cast<int>(plain.size())) refuse(FIREWALL_BAD_SIZE);
        numbers *=
            asked.input < 0 ? 3 : static_cast<std::size_t>(plain[static_cast<std::size_t>(asked.input)].channels);
      }
      if (each.weights != numbers) throw nb::value_error("a layer has too few or too many weights");
      plain.push_back(asked);
    }
    firewall_network* made = nullptr;
    const int status = firewall_network_open(&made, side, prepare, first, second, plain.data(),
                                             static_cast<std::int32_t>(plain.size()));
    if (status != FIREWALL_OK) refuse(status);
    network_.reset(made);
  }

  explicit Network(const Network& other) : side_(other.side_) {
    firewall_network* made = nullptr;
    const int status = firewall_network_share(&made, other.network_.get());
    if (status != FIREWALL_OK) refuse(status);
    network_.reset(made);
  }

  int outputs() const { return firewall_network_outputs(network_.get()); }

  void run_on(const Input& input, const Output& output) {
    const auto side = static_cast<std::size_t>(side_), classes = static_cast<std::size_t>(outputs());
    if (input.shape(2) != side || input.shape(3) != side || input.shape(0) > 0x7fffffff) {
      throw nb::value_error("the input must be of shape (images, 3, side, side)");
    }
    if (output.shape(0) != input.shape(0) || output.shape(1) != classes) {
      throw nb::value_error("the output must be of shape (images, outputs)");
    }
    run([&] {
      return firewall_network_run(network_.get(), output.data(), input.data(),
                                  static_cast<std::int32_t>(input.shape(0)));
    });
  }

 private:
  [[noreturn]] static void refuse(int status) { throw nb::value_error(firewall_status_text(status)); }

  struct Close {
    void operator()(firewall_network* network) const { firewall_network_close(network); }
  };
  int side_;
  std::unique_ptr<firewall_network, Close> network_;
};

}  // namespace

void init_network(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<Layer>(module, "Layer", "A layer of a network; see firewall/network.h.")
      .def(
          "__init__",
          [](Layer* self, int kind, int input, int added, int kernel, int stride, int padding, bool rectified,
             const Numbers& weights, const Numbers& bias) {
            new (self) Layer(layer(kind, input, added, kernel, stride, padding, rectified, weights, bias));
          },
          "kind"_a, "input"_a, "added"_a, "kernel"_a, "stride"_a, "padding"_a, "rectified"_a, "weights"_a.noconvert(),
          "bias"_a.noconvert());
  nb::class_<Network>(module, "Network", "A small convolutional network; see firewall/network.h.")
      .def(nb::init<int, int, float, float, const std::vector<Layer>&>(), "side"_a, "prepare"_a, "first"_a, "second"_a,
           "layers"_a)
      .def(
          "share", [](const Network& self) { return std::make_unique<Network>(self); },
          "Another one with the same weights: the two may run at the same time.")
      .def_prop_ro("outputs", &Network::outputs)
      .def("run", &Network::run_on, "input"_a.noconvert(), "output"_a.noconvert(),
           "Runs a batch. Never from two threads at a time.");
  module.def("fast_networks", &firewall::fast_networks,
             "Whether networks are worth running on this machine's vectors.");
}
