#include "resample.hpp"

#include <algorithm>
#include <cmath>

#include "firewall/scale.h"
#include "kernels/kernels.hpp"

namespace firewall {
namespace {

double box(double x) noexcept { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double triangle(double x) noexcept {
  const double distance = std::fabs(x);
  return distance < 1.0 ? 1.0 - distance : 0.0;
}

double cubic(double x) noexcept {
  constexpr double a = -0.5;
  const double distance = std::fabs(x);
  if (distance < 1.0) return ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1;
  if (distance < 2.0) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0.0;
}

struct Filter {
  double (*value)(double) noexcept;
  double support;
};

Filter filter_of(int filter) noexcept {
  switch (filter) {
    case FIREWALL_FILTER_BILINEAR:
      return {triangle, 1.0};
    case FIREWALL_FILTER_BOX:
      return {box, 0.5};
    default:
      return {cubic, 2.0};
  }
}

}  // namespace

bool known_filter(int filter) noexcept {
  return filter == FIREWALL_FILTER_NEAREST || filter == FIREWALL_FILTER_BILINEAR || filter == FIREWALL_FILTER_BICUBIC ||
         filter == FIREWALL_FILTER_BOX;
}

std::int32_t most_taps(std::int32_t from, std::int32_t to, int filter) noexcept {
  if (filter == FIREWALL_FILTER_NEAREST) return 1;
  const double stretch = std::max(1.0, static_cast<double>(from) / to);
  return static_cast<std::int32_t>(std::ceil(filter_of(filter).support * stretch)) * 2 + 1;
}

std::size_t taps_memory(std::int32_t from, std::int32_t to, int filter) noexcept {
  return static_cast<std::size_t>(2 + most_taps(from, to, filter)) * static_cast<std::size_t>(to);
}

Taps make_taps(std::int32_t from, std::int32_t to, std::int32_t window_start, std::int32_t window, int filter,
               std::int32_t* memory) noexcept {
  const Taps taps{memory, memory + window, memory + 2 * window, most_taps(from, to, filter), window};
  const auto longest = static_cast<std::size_t>(taps.longest);
  const double step = static_cast<double>(from) / to;

  if (filter == FIREWALL_FILTER_NEAREST) {
    // Added up step by step, as in the definition: where a position meets a border, its last bit decides.
    double at = step * 0.5;
    for (std::int32_t i = 0; i < window_start; ++i) at += step;
    for (std::int32_t i = 0; i < window; ++i) {
      taps.starts[i] = std::min(static_cast<std::int32_t>(at), from - 1);
      taps.counts[i] = 1;
      taps.weights[longest * static_cast<std::size_t>(i)] = std::int32_t{1} << kWeightBits;
      at += step;
    }
    return taps;
  }

  const Filter kernel = filter_of(filter);
  const double stretch = std::max(1.0, step);
  const double support = kernel.support * stretch;
  const double narrowing = 1.0 / stretch;
  for (std::int32_t i = 0; i < window; ++i) {
    const double centre = (window_start + i + 0.5) * step;
    const std::int32_t start = std::max(0, static_cast<std::int32_t>(centre - support + 0.5));
    const std::int32_t end = std::min(from, static_cast<std::int32_t>(centre + support + 0.5));
    // Kept for the second loop where they fit; they cost as much as the rest.
    constexpr std::int32_t kKept = 64;
    double kept[kKept];
    double sum = 0.0;
    for (std::int32_t x = start; x < end; ++x) {
      const double value = kernel.value((x - centre + 0.5) * narrowing);
      if (x - start < kKept) kept[x - start] = value;
      sum += value;
    }
    std::int32_t* weights = taps.weights + longest * static_cast<std::size_t>(i);
    for (std::int32_t x = start; x < end; ++x) {
      double weight = x - start < kKept ? kept[x - start] : kernel.value((x - centre + 0.5) * narrowing);
      if (sum != 0.0) weight /= sum;
      weight *= std::int32_t{1} << kWeightBits;
      weights[x - start] = static_cast<std::int32_t>(weight < 0.0 ? weight - 0.5 : weight + 0.5);
    }
    taps.starts[i] = start;
    taps.counts[i] = end - start;
  }
  return taps;
}

void resample_lines(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* source,
                    std::ptrdiff_t source_stride, std::int32_t first, const Taps& taps, std::size_t length) noexcept {
  const Kernels& run = kernels();
  for (std::int32_t i = 0; i < taps.window; ++i) {
    run.weigh(destination + i * destination_stride, source + (taps.starts[i] - first) * source_stride, source_stride,
              taps.weights + std::ptrdiff_t{taps.longest} * i, taps.counts[i], length);
  }
}

void resample(std::uint8_t* destination, std::ptrdiff_t destination_stride, const std::uint8_t* turned,
              std::int32_t height, const Taps& across, const Taps& down, std::uint8_t* first,
              std::uint8_t* second) noexcept {
  const std::ptrdiff_t line = std::ptrdiff_t{3} * height;
  const std::ptrdiff_t row = std::ptrdiff_t{3} * across.window;
  // Only the rows that the second pass reads.
  const std::int32_t top = down.first();
  const std::int32_t rows = down.end() - top;
  if (rows == height) {
    resample_lines(first, line, turned, line, 0, across, static_cast<std::size_t>(line));
  } else {
    for (int colour = 0; colour < 3; ++colour) {
      const std::ptrdiff_t offset = std::ptrdiff_t{colour} * height + top;
      resample_lines(first + offset, line, turned + offset, line, 0, across, static_cast<std::size_t>(rows));
    }
  }
  kernels().transpose(second, row, first + top, height, static_cast<std::size_t>(row), static_cast<std::size_t>(rows));
  resample_lines(destination, destination_stride, second, row, top, down, static_cast<std::size_t>(row));
}

}  // namespace firewall
