// Saves a picture as JPEG at 16 qualities and says how far each copy is from it:
//   sweep_a_picture [PICTURE.ppm]
// Without a picture it draws one. No JPEG is ever written: the runtime computes what would be opened.
#include <firewall/jpeg_sweep.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace {

struct Picture {
  std::int32_t height = 0;
  std::int32_t width = 0;
  std::vector<std::uint8_t> pixels;  // R, G, B of the first pixel, of the one right of it, ..., row by row
};

// A red ring on a blue sky that gets brighter downwards.
Picture drawn() {
  Picture picture{120, 160, {}};
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x) {
      const int distance = (x - 80) * (x - 80) + (y - 60) * (y - 60);
      const bool ring = distance > 30 * 30 && distance < 42 * 42;
      const int sky = 60 + y;
      picture.pixels.push_back(static_cast<std::uint8_t>(ring ? 200 : sky));
      picture.pixels.push_back(static_cast<std::uint8_t>(ring ? 20 : sky + 30));
      picture.pixels.push_back(static_cast<std::uint8_t>(ring ? 30 : 250));
    }
  }
  return picture;
}

// A binary PPM without comments: "P6", width, height, "255", then the pixels.
Picture read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  Picture picture;
  int highest = 0;
  file >> kind >> picture.width >> picture.height >> highest;
  file.get();
  const bool sound = file && kind == "P6" && highest == 255 && picture.width > 0 && picture.height > 0 &&
                     picture.width <= FIREWALL_MAX_SIDE && picture.height <= FIREWALL_MAX_SIDE;
  if (sound) {
    picture.pixels.resize(std::size_t{3} * static_cast<std::size_t>(picture.width) *
                          static_cast<std::size_t>(picture.height));
    file.read(reinterpret_cast<char*>(picture.pixels.data()), static_cast<std::streamsize>(picture.pixels.size()));
  }
  if (!sound || !file) {
    std::fprintf(stderr, "%s is not a binary PPM (P6) with a highest value of 255\n", path);
    std::exit(1);
  }
  return picture;
}

}  // namespace

int main(int count, char** arguments) {
  const Picture picture = count > 1 ? read(arguments[1]) : drawn();
  constexpr std::array<std::int32_t, 16> kQualities = {100, 95, 90, 85, 80, 75, 70, 65, 60, 55, 50, 45, 40, 35, 30, 25};

  // What to do. The rest is zero, and not read: bytes need no normalisation, and the copies keep the size.
  firewall_jpeg_options options = {};
  options.sampling = FIREWALL_JPEG_420;  // as nearly every JPEG file
  options.format = FIREWALL_JPEG_UINT8;
  options.threads = 1;

  // Where the picture lies. One picture, whose rows follow each other without gaps.
  firewall_images source = {};
  source.data = picture.pixels.data();
  source.count = 1;
  source.height = picture.height;
  source.width = picture.width;
  source.row_stride = std::ptrdiff_t{3} * picture.width;

  // All memory is the caller's. A program that sweeps frame after frame allocates it once.
  const auto qualities = static_cast<std::int32_t>(kQualities.size());
  std::vector<std::uint8_t> copies(firewall_jpeg_sweep_bytes(1, picture.height, picture.width, qualities, &options));
  std::vector<std::uint8_t> scratch(firewall_jpeg_sweep_scratch(picture.height, picture.width, &options));

  const int status = firewall_jpeg_sweep(copies.data(), copies.size(), &source, kQualities.data(), qualities, &options,
                                         scratch.data(), scratch.size());
  if (status != FIREWALL_OK) {
    std::fprintf(stderr, "the sweep failed: %s\n", firewall_status_text(status));
    return 1;
  }

  // copies holds one picture after the other, in the order of the qualities.
  const std::uint8_t* copy = copies.data();
  double most = -1;
  std::int32_t worst = 0;
  for (const std::int32_t quality : kQualities) {
    std::uint64_t difference = 0;
    for (const std::uint8_t value : picture.pixels) {
      difference += static_cast<std::uint64_t>(std::abs(int{value} - int{*copy++}));
    }
    const double mean = static_cast<double>(difference) / static_cast<double>(picture.pixels.size());
    std::printf("quality %3d: %.3f grey levels away\n", static_cast<int>(quality), mean);
    if (mean > most) {
      most = mean;
      worst = quality;
    }
  }
  std::printf("%dx%d: quality %d changed it most\n", static_cast<int>(picture.width), static_cast<int>(picture.height),
              static_cast<int>(worst));
  return 0;
}
