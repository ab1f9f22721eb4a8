// The CUDA kernels of blur, rotation, scaling and residual, run as block programs on the processor: the same bytes as
// the functions of cpu/. And what the plans of all operations refuse.
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include "../../runtime/cuda/gaussian_blur.hpp"
#include "../../runtime/cuda/residual.hpp"
#include "../../runtime/cuda/rotate.hpp"
#include "../../runtime/cuda/scale.hpp"
#include "../../runtime/cuda/tensor.hpp"
#include "cuda_host.hpp"
#include "expect.hpp"
#include "firewall/cuda.h"
#include "firewall/rotate.h"
#include "firewall/tensor.h"

namespace {

using namespace firewall::cuda;
using firewall::testing::HostBlock;
using firewall::testing::run_grid;
using Bytes = std::vector<std::uint8_t>;

int copies_compared = 0;

constexpr int kSizes[][2] = {{1, 1}, {1, 2},   {2, 1},   {1, 70},  {70, 1},  {3, 3},    {7, 5},
                             {8, 8}, {16, 64}, {17, 65}, {33, 43}, {64, 48}, {50, 130}, {224, 224}};

// Images of noise with gaps behind rows and images; the memory ends with the last row.
struct Images {
  Bytes pixels;
  firewall_images view;

  Images(int count, int height, int width, std::ptrdiff_t gap) {
    const std::ptrdiff_t row = std::ptrdiff_t{3} * width + gap, image = row * height + 2 * gap;
    pixels.resize(static_cast<std::size_t>(image * count - 3 * gap));
    std::uint32_t state = static_cast<std::uint32_t>(height * 1000 + width);
    for (std::uint8_t& byte : pixels) {
      state = state * 1664525u + 1013904223u;
      byte = static_cast<std::uint8_t>(state >> 24);
    }
    view = {pixels.data(), image, row, count, height, width};
  }
};

template <typename Task>
void point(Task& task, const firewall_images& source) {
  task.source = source.data;
  task.row_stride = source.row_stride;
  task.image_stride = source.image_stride;
}

template <typename Value>
std::vector<Value> room_for(const firewall_images& source, std::size_t parameters) {
  return std::vector<Value>(static_cast<std::size_t>(source.count) * parameters * 3 *
                            static_cast<std::size_t>(source.height) * static_cast<std::size_t>(source.width));
}

// by_cpu(images, out) and by_programs(images, out, backwards) give the same, on every size and some batches.
template <typename Value, typename ByCpu, typename ByPrograms>
void compare(std::size_t parameters, const ByCpu& by_cpu, const ByPrograms& by_programs) {
  for (const auto& [height, width] : kSizes) {
    const int count = height * width < 5000 ? 3 : 1;
    const Images images(count, height, width, height % 2 * 5);
    std::vector<Value> expected = room_for<Value>(images.view, parameters);
    EXPECT(by_cpu(images.view, expected) == FIREWALL_OK);
    copies_compared += count * static_cast<int>(parameters);
    for (const bool backwards : {false, true}) {
      std::vector<Value> out = room_for<Value>(images.view, parameters);
      std::fill(out.begin(), out.end(), Value{7});
      by_programs(images.view, out, backwards);
      EXPECT(out == expected);
    }
  }
}

// From no blur to one that is wider than the image, in one grid.
void test_blur_equals_the_cpu() {
  const std::vector<float> radii = {0.0f, 0.3f, 0.5f, 1.0f, 2.5f, 7.0f, 33.3f, 200.0f, 1000.0f};
  const auto n = static_cast<int>(radii.size());
  compare<std::uint8_t>(
      radii.size(),
      [&](const firewall_images& source, Bytes& out) {
        Bytes scratch(firewall_gaussian_blur_scratch(source.height, source.width));
        return firewall_gaussian_blur(out.data(), &source, radii.data(), n, scratch.data(), scratch.size());
      },
      [&](const firewall_images& source, Bytes& out, bool backwards) {
        gaussian_blur::Task task = gaussian_blur::make_task(source.height, source.width, n);
        const std::vector<firewall::Box> boxes = gaussian_blur::make_boxes(radii.data(), n);
        point(task, source);
        task.boxes = boxes.data();
        task.destination = out.data();
        const int copies = source.count * n;
        run_grid(copies * task.rows.groups, task.rows.memory, backwards,
                 [&](HostBlock& block, int index, unsigned char* shared) {
                   gaussian_blur::blur_rows(block, task, index, shared);
                 });
        run_grid(copies * task.columns.groups, task.columns.memory, backwards,
                 [&](HostBlock& block, int index, unsigned char* shared) {
                   gaussian_blur::blur_columns(block, task, index, shared);
                 });
      });
}

// Small angles, turns, and angles of several turns.
void test_rotation_equals_the_cpu() {
  const std::vector<double> angles = {0, 1, -2.5, 10, 45, 90, -90, 180, 270, 359.9, 1234.5, -0.01};
  const auto n = static_cast<int>(angles.size());
  compare<std::uint8_t>(
      angles.size(),
      [&](const firewall_images& source, Bytes& out) { return firewall_rotate(out.data(), &source, angles.data(), n); },
      [&](const firewall_images& source, Bytes& out, bool backwards) {
        rotate::Task task = rotate::make_task(source.height, source.width, n);
        const auto affines = rotate::make_affines(angles.data(), n, source.height, source.width);
        point(task, source);
        task.affines = affines.data();
        task.destination = out.data();
        run_grid(source.count * n * task.spans, rotate::kMemory, backwards,
                 [&](HostBlock& block, int index, unsigned char* shared) { rotate::turn(block, task, index, shared); });
      });
}

constexpr int kFilters[] = {FIREWALL_FILTER_NEAREST, FIREWALL_FILTER_BILINEAR, FIREWALL_FILTER_BICUBIC,
                            FIREWALL_FILTER_BOX};

// run_grid for a program whose shared memory is a ResampleMemory.
template <typename Program>
void run_resampling(int blocks, bool backwards, const Program& program) {
  run_grid(blocks, static_cast<int>(sizeof(ResampleMemory)), backwards,
           [&](HostBlock& block, int index, unsigned char* shared) {
             program(block, index, *reinterpret_cast<ResampleMemory*>(shared));
           });
}

// Smaller with black margins, larger with a cut, by all filters.
void test_scaling_equals_the_cpu() {
  const std::vector<double> factors = {1.0, 0.1, 0.35, 0.5, 0.9, 1.1, 1.5, 2.0, 3.7, 10.0};
  const auto n = static_cast<int>(factors.size());
  for (const int filter : kFilters) {
    compare<std::uint8_t>(
        factors.size(),
        [&](const firewall_images& source, Bytes& out) {
          Bytes scratch(firewall_scale_scratch(source.height, source.width));
          return firewall_scale(out.data(), &source, factors.data(), n, filter, scratch.data(), scratch.size());
        },
        [&](const firewall_images& source, Bytes& out, bool backwards) {
          scale::Task task = scale::make_task(source.height, source.width, n);
          std::vector<std::int32_t> pool;
          const auto made = scale::make_factors(pool, factors.data(), n, source.height, source.width, filter);
          point(task, source);
          task.factors = made.data();
          task.pool = pool.data();
          task.destination = out.data();
          run_resampling(
              source.count * n * task.tiles, backwards,
              [&](HostBlock& block, int index, ResampleMemory& memory) { scale::resize(block, task, index, memory); });
        });
  }
}

template <typename Value, typename ByCpu>
void compare_residual(const ByCpu& by_cpu) {
  const std::vector<double> shares = {0.5, 0.001, 0.13, 0.77, 0.999};
  const auto n = static_cast<int>(shares.size());
  for (const int down : kFilters) {
    const int up = kFilters[down % 2 + 1];
    compare<Value>(
        shares.size(),
        [&](const firewall_images& source, std::vector<Value>& out) {
          Bytes scratch(firewall_residual_scratch(source.height, source.width));
          return by_cpu(out.data(), &source, shares.data(), n, down, up, scratch.data(), scratch.size());
        },
        [&](const firewall_images& source, std::vector<Value>& out, bool backwards) {
          residual::Tables tables;
          residual::Task task = residual::make_task(tables, source.height, source.width, shares.data(), n, down, up);
          Bytes small(static_cast<std::size_t>(task.small_size * source.count));
          point(task, source);
          task.shares = tables.shares.data();
          task.small_tile = tables.small_tiles.data();
          task.pool = tables.pool.data();
          task.small = small.data();
          task.destination = out.data();
          run_resampling(source.count * task.small_tiles, backwards,
                         [&](HostBlock& block, int index, ResampleMemory& memory) {
                           residual::shrink(block, task, index, memory);
                         });
          run_resampling(source.count * n * task.tiles, backwards,
                         [&](HostBlock& block, int index, ResampleMemory& memory) {
                           residual::compare<Value>(block, task, index, memory);
                         });
        });
  }
}

// Shares from a single pixel that is left to almost all of them, as differences and as bytes.
void test_residual_equals_the_cpu() {
  compare_residual<std::int16_t>(firewall_residual);
  compare_residual<std::uint8_t>(firewall_residual_coded);
}

// Colours apart and normalised: the same numbers, to the last bit.
void test_tensor_equals_the_cpu() {
  const double mean[3] = {0.485, 0.0, 0.406};
  const double deviation[3] = {0.229, 1.0, 2.5};
  compare<float>(
      1,
      [&](const firewall_images& source, std::vector<float>& out) {
        return firewall_tensor(out.data(), &source, mean, deviation);
      },
      [&](const firewall_images& source, std::vector<float>& out, bool backwards) {
        tensor::Task task = tensor::make_task(source.height, source.width, mean, deviation);
        point(task, source);
        task.destination = out.data();
        run_grid(source.count * task.spans, 1, backwards,
                 [&](HostBlock& block, int index, unsigned char*) { tensor::spread(block, task, index); });
      });
}

// No shape of image makes a block of threads of the blur ask for more shared memory than every GPU has, and every lane
// belongs to a group.
void test_blur_fits_shared_memory() {
  for (const int height : {1, 2, 8, 224, 500, 768, 769, 4095, 4096, 4097, 8192, 8193, FIREWALL_MAX_SIDE}) {
    for (const int width : {1, 3, 224, 640, 1024, 1025, 4096, 4097, 8193, FIREWALL_MAX_SIDE}) {
      const gaussian_blur::Task task = gaussian_blur::make_task(height, width, 1);
      for (const gaussian_blur::Lanes& lanes : {task.rows, task.columns}) {
        EXPECT(lanes.memory <= gaussian_blur::kMostMemory && lanes.inner >= 1 && lanes.outer >= 1);
        EXPECT(lanes.length * lanes.inner * lanes.outer < 65536);
      }
      EXPECT(task.rows.groups * task.rows.outer * task.rows.inner >= 3 * height);
      EXPECT(task.columns.groups * task.columns.inner >= 3 * width);
    }
  }
  EXPECT(sizeof(ResampleMemory) <= 48 * 1024 && rotate::kMemory <= 48 * 1024);
}

// A row too long for three colours at a time is blurred colour by colour; a column too long for a sector, byte by byte.
void test_blur_of_long_sides_equals_the_cpu() {
  const float radius = 3.3f;
  for (const auto& [height, width] : {std::pair{2, 12000}, std::pair{12000, 2}}) {
    const Images images(1, height, width, 0);
    Bytes expected = room_for<std::uint8_t>(images.view, 1), out = expected;
    Bytes scratch(firewall_gaussian_blur_scratch(height, width));
    EXPECT(firewall_gaussian_blur(expected.data(), &images.view, &radius, 1, scratch.data(), scratch.size()) ==
           FIREWALL_OK);
    gaussian_blur::Task task = gaussian_blur::make_task(height, width, 1);
    const std::vector<firewall::Box> boxes = gaussian_blur::make_boxes(&radius, 1);
    point(task, images.view);
    task.boxes = boxes.data();
    task.destination = out.data();
    run_grid(task.rows.groups, task.rows.memory, false, [&](HostBlock& block, int index, unsigned char* shared) {
      gaussian_blur::blur_rows(block, task, index, shared);
    });
    run_grid(task.columns.groups, task.columns.memory, true, [&](HostBlock& block, int index, unsigned char* shared) {
      gaussian_blur::blur_columns(block, task, index, shared);
    });
    EXPECT(out == expected);
    ++copies_compared;
  }
}

// A plan is refused for sizes and parameters that the functions of the processor refuse, and for grids that can't be
// numbered.
void test_plans_refuse_what_is_not_allowed() {
  const double nan = std::nan("");
  const Shape good = {2, 10, 12, 3, 1, 1};
  const double one = 1.0, half = 0.5;
  const float radius = 1.0f;
  EXPECT(rotate::check_rotate(good, &one) == FIREWALL_OK);
  EXPECT(rotate::check_rotate(good, &nan) == FIREWALL_BAD_PARAMETER);
  EXPECT(rotate::check_rotate(good, nullptr) == FIREWALL_NULL_POINTER);
  EXPECT(gaussian_blur::check_gaussian_blur(good, &radius) == FIREWALL_OK);
  for (const float bad : {-0.1f, 1000.5f, std::nanf("")}) {
    EXPECT(gaussian_blur::check_gaussian_blur(good, &bad) == FIREWALL_BAD_PARAMETER);
  }
  EXPECT(scale::check_scale(good, &one, FIREWALL_FILTER_BOX) == FIREWALL_OK);
  EXPECT(scale::check_scale(good, &one, 1) == FIREWALL_BAD_PARAMETER);
  for (const double bad : {0.09, 10.1, nan}) {
    EXPECT(scale::check_scale(good, &bad, FIREWALL_FILTER_BOX) == FIREWALL_BAD_PARAMETER);
  }
  EXPECT(residual::check_residual(good, &half, 2, 3) == FIREWALL_OK);
  EXPECT(residual::check_residual(good, &half, 2, 5) == FIREWALL_BAD_PARAMETER);
  for (const double bad : {0.0, 1.0, nan}) {
    EXPECT(residual::check_residual(good, &bad, 2, 3) == FIREWALL_BAD_PARAMETER);
  }
  const double three[3] = {1.0, 1.0, 1.0}, flat[3] = {1.0, 0.0, 1.0}, unknown[3] = {1.0, 1.0, nan};
  EXPECT(tensor::check_tensor(good, three, three) == FIREWALL_OK);
  EXPECT(tensor::check_tensor(good, flat, three) == FIREWALL_OK);
  EXPECT(tensor::check_tensor(good, three, flat) == FIREWALL_BAD_PARAMETER);
  EXPECT(tensor::check_tensor(good, unknown, three) == FIREWALL_BAD_PARAMETER);
  EXPECT(tensor::check_tensor(good, three, nullptr) == FIREWALL_NULL_POINTER);
  for (const Shape& bad :
       {Shape{0, 10, 12, 3, 1, 1}, Shape{1, 0, 12, 3, 1, 1}, Shape{1, 10, FIREWALL_MAX_SIDE + 1, 3, 1, 1},
        Shape{1, 10, 12, 3, 0, 1}, Shape{-1, 10, 12, 3, 1, 1},
        Shape{std::numeric_limits<std::int32_t>::max(), 16384, 16384, 3, std::numeric_limits<std::int32_t>::max(),
              4}}) {
    EXPECT(rotate::check_rotate(bad, &one) == FIREWALL_BAD_SIZE);
  }
  const Shape many = {100000, 16384, 16384, 3, 1, 1};  // 2^28 pixels an image: more spans than can be numbered
  EXPECT(rotate::check_rotate(many, &one) == FIREWALL_BAD_SIZE);
}

// A run is refused for another size, more images, strides and buffers that don't fit, and for memory that is shared.
void test_runs_refuse_what_is_not_allowed() {
  const Shape shape = {4, 10, 12, 3, 5, 4};
  const Images images(4, 10, 12, 0);
  std::vector<float> room(result_bytes(shape, 4) / sizeof(float));
  const std::size_t all = room.size() * sizeof(float);
  EXPECT(all == 4u * 10 * 12 * 3 * 5 * 4 && result_bytes(shape, 5) == 0 && result_bytes(shape, -1) == 0);
  const auto status = [&](const auto& change) {
    firewall_images source = images.view;
    change(source);
    return check_run(shape, room.data(), all, &source);
  };
  EXPECT(status([](auto&) {}) == FIREWALL_OK);
  EXPECT(status([](auto& s) { s.count = 0, s.data = nullptr; }) == FIREWALL_OK);
  EXPECT(status([](auto& s) { s.count = 5; }) == FIREWALL_BAD_SIZE);
  EXPECT(status([](auto& s) { s.count = -1; }) == FIREWALL_BAD_SIZE);
  EXPECT(status([](auto& s) { s.height = 9; }) == FIREWALL_BAD_SIZE);
  EXPECT(status([](auto& s) { s.width = 13; }) == FIREWALL_BAD_SIZE);
  EXPECT(status([](auto& s) { s.data = nullptr; }) == FIREWALL_NULL_POINTER);
  EXPECT(status([](auto& s) { s.row_stride = 35; }) == FIREWALL_BAD_STRIDE);
  EXPECT(status([](auto& s) { s.row_stride = std::numeric_limits<std::ptrdiff_t>::max(); }) == FIREWALL_BAD_STRIDE);
  EXPECT(status([](auto& s) { s.image_stride = 359; }) == FIREWALL_BAD_STRIDE);
  EXPECT(status([](auto& s) { s.image_stride = -1; }) == FIREWALL_BAD_STRIDE);
  EXPECT(status([](auto& s) { s.image_stride = std::numeric_limits<std::ptrdiff_t>::max(); }) == FIREWALL_BAD_STRIDE);
  EXPECT(status([](auto& s) { s.count = 1, s.image_stride = 0; }) == FIREWALL_OK);
  EXPECT(status([&](auto& s) { s.data = reinterpret_cast<const std::uint8_t*>(room.data()) + 8; }) == FIREWALL_OVERLAP);
  EXPECT(check_run(shape, room.data(), all - 1, &images.view) == FIREWALL_BAD_SIZE);
  EXPECT(check_run(shape, nullptr, all, &images.view) == FIREWALL_NULL_POINTER);
  EXPECT(check_run(shape, room.data(), all, nullptr) == FIREWALL_NULL_POINTER);
  EXPECT(check_run(shape, reinterpret_cast<unsigned char*>(room.data()) + 2, all, &images.view) ==
         FIREWALL_BAD_PARAMETER);
}

// Where no GPU can be used, every function of the interface says why and gives no plan; where one can, plans are made.
void test_interface_answers_without_a_gpu() {
  const int usable = firewall_cuda_usable();
  EXPECT(usable == FIREWALL_OK || usable == FIREWALL_NO_CUDA || usable == FIREWALL_CUDA_ERROR);
  EXPECT(firewall_cuda_error_text() != nullptr);
  EXPECT((firewall_cuda_built() == 0) == (usable == FIREWALL_NO_CUDA));
  const double one = 1.0, half = 0.5;
  const float radius = 1.0f;
  const std::int32_t quality = 75;
  firewall_jpeg_options options{};
  options.sampling = FIREWALL_JPEG_420;
  const auto expect_plan = [&](const auto& make) {
    firewall_cuda_plan* plan = nullptr;
    EXPECT(make(&plan) == usable);
    EXPECT((plan != nullptr) == (usable == FIREWALL_OK));
    EXPECT((firewall_cuda_plan_bytes(plan, 2) > 0) == (usable == FIREWALL_OK));
    EXPECT((firewall_cuda_plan_memory(plan) > 0) == (usable == FIREWALL_OK));
    firewall_cuda_plan_free(plan);
    EXPECT(make(static_cast<firewall_cuda_plan**>(nullptr)) == FIREWALL_NULL_POINTER);
  };
  expect_plan([&](auto** plan) { return firewall_cuda_jpeg_sweep_plan(plan, 2, 9, 9, &quality, 1, &options); });
  expect_plan([&](auto** plan) { return firewall_cuda_gaussian_blur_plan(plan, 2, 9, 9, &radius, 1); });
  expect_plan([&](auto** plan) { return firewall_cuda_rotate_plan(plan, 2, 9, 9, &one, 1); });
  expect_plan([&](auto** plan) { return firewall_cuda_scale_plan(plan, 2, 9, 9, &one, 1, FIREWALL_FILTER_BOX); });
  expect_plan([&](auto** plan) { return firewall_cuda_residual_plan(plan, 2, 9, 9, &half, 1, 2, 3, 0); });
  const double three[3] = {1.0, 1.0, 1.0};
  firewall_cuda_plan* plan = nullptr;  // it holds no memory of its own
  EXPECT(firewall_cuda_tensor_plan(&plan, 2, 9, 9, three, three) == usable);
  EXPECT((plan != nullptr) == (usable == FIREWALL_OK));
  EXPECT(firewall_cuda_plan_bytes(plan, 2) == (usable == FIREWALL_OK ? 2 * 3 * 81 * sizeof(float) : 0));
  firewall_cuda_plan_free(plan);
  EXPECT(firewall_cuda_tensor_plan(nullptr, 2, 9, 9, three, three) == FIREWALL_NULL_POINTER);
  firewall_cuda_plan_free(nullptr);
}

}  // namespace

int main() {
  test_blur_equals_the_cpu();
  test_rotation_equals_the_cpu();
  test_scaling_equals_the_cpu();
  test_residual_equals_the_cpu();
  test_tensor_equals_the_cpu();
  test_blur_fits_shared_memory();
  test_blur_of_long_sides_equals_the_cpu();
  test_plans_refuse_what_is_not_allowed();
  test_runs_refuse_what_is_not_allowed();
  test_interface_answers_without_a_gpu();
  std::printf("%d copies compared with the CPU, threads in two orders\n", copies_compared);
  return firewall::testing::failures == 0 ? 0 : 1;
}
