// What jpeg_sweep.cpp and the kernels (one per instruction set) agree on. Sizes are in samples and bytes, `lanes` is
// the number of 128-bit lanes of a kernel's vectors, a group is one 8x8 block for each lane.
#pragma once

#include <cstddef>
#include <cstdint>

namespace firewall::jpeg {

inline constexpr int kBlock = 64;      // coefficients of a block
inline constexpr int kRingRows = 16;   // rows of chroma that are kept while a copy is rendered: two rows of blocks
inline constexpr int kRowMargin = 64;  // bytes before a row of chroma sums, so that its left neighbour is inside
inline constexpr int kAlignment = 64;  // of everything in the scratch

enum class Format { uint8, float32, float16 };

// Quantisation of one table at one quality, as five small steps that any vector unit has (see quantisation.cpp).
// Every array is in the order in which a group holds its coefficients.
struct Quantiser {
  alignas(16) std::uint16_t offset[kBlock];
  alignas(16) std::uint16_t reciprocal[kBlock];
  alignas(16) std::uint16_t mask[kBlock];
  alignas(16) std::uint16_t step[kBlock];
  alignas(16) std::uint16_t centre[kBlock];
};

// How one image lies in memory on its way. Made by jpeg_sweep.cpp, the same for every quality.
struct Plan {
  int width, height;
  bool grey;
  int across, down;  // full-size columns and rows for one of chroma: 1 or 2
  int chroma_width, chroma_height;
  bool fancy;                      // chroma is enlarged with the triangle filter, else repeated
  int luma_rows, luma_groups;      // rows of blocks; groups in such a row
  int chroma_rows, chroma_groups;  // the same of chroma, whose groups hold Cb and Cr blocks in turn
  int bands;                       // rows of blocks of chroma (of luma if grey): what `prepare` does at a time
  std::size_t pitch;               // bytes of a row of luma samples
  std::size_t chroma_pitch;        // bytes of a row of chroma samples, 8 of Cb and 8 of Cr in turn
  std::size_t sums_bytes;          // bytes of a row of chroma sums, margins included
  Format format;                   // what `render` writes
  float scale[3], shift[3];
};

// Coefficients of an image, written once by `prepare`, read at each quality.
struct Coefficients {
  std::int16_t* luma;
  std::int16_t* chroma;
};

// Samples of one band, for `prepare`.
struct Band {
  std::int8_t* luma;    // 8 * down rows of pitch
  std::int8_t* chroma;  // 8 rows of chroma_pitch
  std::int8_t* blue;    // `down` rows of pitch: Cb and Cr before they are made smaller
  std::int8_t* red;
  std::uint8_t* pixels;  // the end of a row, continued with its last pixel
};

// Samples of a few rows, for `render`.
struct Canvas {
  std::uint8_t* luma;    // 8 rows of pitch
  std::uint8_t* ring;    // kRingRows rows of chroma_pitch
  std::uint8_t* sums;    // one row of sums_bytes
  std::uint8_t* planes;  // three rows of pitch: R, G, B
  std::uint8_t* tail;    // what would lie behind the end of an image
};

struct Kernel {
  int lanes;
  // Colour, downsampling and forward DCT of the bands first .. last - 1.
  void (*prepare)(const Plan& plan, const std::uint8_t* pixels, std::ptrdiff_t stride, int first, int last,
                  const Band& band, const Coefficients& out);
  // A copy: quantisation, inverse DCT, upsampling, colour of the rows of blocks first .. last - 1. A copy that is made
  // in pieces (uint8 alone) is made from the top, on one canvas; destination: where this piece goes.
  void (*render)(const Plan& plan, const Coefficients& in, const Quantiser& luma, const Quantiser& chroma,
                 const Canvas& canvas, int first, int last, void* destination);
  // samples[i] * scale + shift as float32, or rounded once more to float16. Reads up to kAlignment samples too many.
  void (*normalise)(const std::uint8_t* samples, int count, float scale, float shift, Format format, void* destination);
};

extern const Kernel portable_kernel;
extern const Kernel sse4_kernel;    // x86-64 alone
extern const Kernel avx2_kernel;    // x86-64 alone
extern const Kernel avx512_kernel;  // x86-64 alone
extern const Kernel neon_kernel;    // aarch64 alone

}  // namespace firewall::jpeg
