// The loops, compiled once for each instruction set: FIREWALL_ISA is the namespace, FIREWALL_NETWORK_... the set.
#include "loops.hpp"

#include "tiles.hpp"
#include "vector.hpp"

// Unrolled, the factors of a tile are known to the compiler. Plain C++ is for machines where nobody waits for it.
#if defined(FIREWALL_NETWORK_SCALAR)
#define FIREWALL_UNROLL
#else
#define FIREWALL_UNROLL _Pragma("GCC unroll 8")
#endif

namespace firewall {
namespace FIREWALL_ISA {
namespace {

constexpr auto kLanes = static_cast<std::ptrdiff_t>(kGroup);

template <int count, int groups>
void multiply_block(const Product& product) {
  Lanes sums[count][groups];
  for (int group = 0; group < groups; ++group) {
    const Lanes first = product.bias == nullptr ? fill(0) : load(product.bias + kLanes * group);
    for (int row = 0; row < count; ++row) sums[row][group] = first;
  }
  const float* weights = product.weights;
  for (int segment = 0; segment < product.segments; ++segment) {
    const std::ptrdiff_t start = segment * product.apart;
    for (std::ptrdiff_t i = start; i < start + product.length; ++i) {
      Lanes taps[groups];
      for (int group = 0; group < groups; ++group) {
        taps[group] = load(weights + group * product.column);
        __builtin_prefetch(weights + group * product.column + product.ahead);
      }
      weights += kLanes;
      for (int row = 0; row < count; ++row) {
        const Lanes number = fill(product.rows[row][i]);
        for (int group = 0; group < groups; ++group) {
          sums[row][group] = multiply_add(number, taps[group], sums[row][group]);
        }
      }
    }
  }
  for (int row = 0; row < count; ++row) {
    for (int group = 0; group < groups; ++group) {
      Lanes sum = sums[row][group];
      if (product.added[row] != nullptr) sum = add(sum, load(product.added[row] + kLanes * group));
      store(product.results[row] + kLanes * group, product.rectified ? rectify(sum) : sum);
    }
  }
}

template <int groups>
void multiply_rows(const Product& product, int count) {
  switch (count) {
    case 1:
      return multiply_block<1, groups>(product);
    case 2:
      return multiply_block<2, groups>(product);
    case 3:
      return multiply_block<3, groups>(product);
    case 4:
      return multiply_block<4, groups>(product);
    case 5:
      return multiply_block<5, groups>(product);
    default:
      return multiply_block<6, groups>(product);
  }
}

void multiply(const Product& product, int count, int groups) {
#if defined(FIREWALL_NETWORK_AVX512)
  if (groups == 4) return multiply_rows<4>(product, count);
  if (groups == 3) return multiply_rows<3>(product, count);
  if (groups == 2) return multiply_rows<2>(product, count);
#else
  static_cast<void>(groups);
#endif
  multiply_rows<1>(product, count);
}

// sum + factor * number, with nothing to multiply where the factor is 0, 1 or -1.
inline Lanes accumulate(const Lanes& sum, float factor, const Lanes& number) {
  if (factor == 0) return sum;
  if (factor == 1) return add(sum, number);
  if (factor == -1) return subtract(sum, number);
  return multiply_add(fill(factor), number, sum);
}

template <int N>
void into_tile(float* destination, std::ptrdiff_t apart, const float* source, std::ptrdiff_t line,
               std::ptrdiff_t channels) {
  constexpr int kPlaces = N + 2;
  for (std::ptrdiff_t c = 0; c < channels; c += kLanes) {
    Lanes half[kPlaces][kPlaces];
    for (int x = 0; x < kPlaces; ++x) {
      Lanes column[kPlaces];
      for (int y = 0; y < kPlaces; ++y) column[y] = load(source + y * line + x * channels + c);
      FIREWALL_UNROLL
      for (int i = 0; i < kPlaces; ++i) {
        Lanes sum = fill(0);
        FIREWALL_UNROLL
        for (int k = 0; k < kPlaces; ++k) sum = accumulate(sum, Tile<N>::into[i][k], column[k]);
        half[i][x] = sum;
      }
    }
    for (int i = 0; i < kPlaces; ++i) {
      FIREWALL_UNROLL
      for (int j = 0; j < kPlaces; ++j) {
        Lanes sum = fill(0);
        FIREWALL_UNROLL
        for (int k = 0; k < kPlaces; ++k) sum = accumulate(sum, Tile<N>::into[j][k], half[i][k]);
        store(destination + (i * kPlaces + j) * apart + c, sum);
      }
    }
  }
}

template <int N>
void out_of_tile(float* destination, std::ptrdiff_t line, const float* source, std::ptrdiff_t apart,
                 std::ptrdiff_t channels, const float* bias, const float* added, bool rectified) {
  constexpr int kPlaces = N + 2;
  for (std::ptrdiff_t c = 0; c < channels; c += kLanes) {
    Lanes half[N][kPlaces];
    for (int x = 0; x < kPlaces; ++x) {
      Lanes column[kPlaces];
      for (int y = 0; y < kPlaces; ++y) column[y] = load(source + (y * kPlaces + x) * apart + c);
      FIREWALL_UNROLL
      for (int i = 0; i < N; ++i) {
        Lanes sum = fill(0);
        FIREWALL_UNROLL
        for (int k = 0; k < kPlaces; ++k) sum = accumulate(sum, Tile<N>::out_of[i][k], column[k]);
        half[i][x] = sum;
      }
    }
    const Lanes first = load(bias + c);
    for (int i = 0; i < N; ++i) {
      FIREWALL_UNROLL
      for (int j = 0; j < N; ++j) {
        Lanes sum = first;
        FIREWALL_UNROLL
        for (int k = 0; k < kPlaces; ++k) sum = accumulate(sum, Tile<N>::out_of[j][k], half[i][k]);
        const std::ptrdiff_t at = i * line + j * channels + c;
        if (added != nullptr) sum = add(sum, load(added + at));
        store(destination + at, rectified ? rectify(sum) : sum);
      }
    }
  }
}

void into(float* destination, std::ptrdiff_t apart, const float* source, std::ptrdiff_t line, std::ptrdiff_t channels,
          int tile) {
  (tile == 2 ? into_tile<2> : tile == 3 ? into_tile<3> : into_tile<4>)(destination, apart, source, line, channels);
}

void out_of(float* destination, std::ptrdiff_t line, const float* source, std::ptrdiff_t apart, std::ptrdiff_t channels,
            int tile, const float* bias, const float* added, bool rectified) {
  const auto run = tile == 2 ? out_of_tile<2> : tile == 3 ? out_of_tile<3> : out_of_tile<4>;
  run(destination, line, source, apart, channels, bias, added, rectified);
}

void whole(float* destination, const float* source, std::ptrdiff_t pixels, std::ptrdiff_t channels, int copies,
           const float* weights, const float* bias, bool rectified) {
  const std::ptrdiff_t all = copies * channels;
  for (std::ptrdiff_t at = 0; at < all; at += kLanes) {
    const std::ptrdiff_t c = at % channels;
    Lanes sum = load(bias + at);
    for (std::ptrdiff_t pixel = 0; pixel < pixels; ++pixel) {
      sum = multiply_add(load(source + pixel * channels + c), load(weights + pixel * all + at), sum);
    }
    store(destination + at, rectified ? rectify(sum) : sum);
  }
}

}  // namespace

extern const NetworkLoops loops;
const NetworkLoops loops = {kColumns, multiply, into, out_of, whole};

}  // namespace FIREWALL_ISA
}  // namespace firewall
