/* The operations on an NVIDIA GPU: from and to device memory, on the caller's stream, and byte for byte what the
 * functions of the same names compute on the processor (jpeg_sweep.h, gaussian_blur.h, rotate.h, scale.h, residual.h,
 * tensor.h: they define the results, their limits and their parameters).
 *
 * A plan is made once for an operation, a size of image, a list of parameters and a largest number of images. Making it
 * checks everything, computes tables, allocates all device memory that is ever needed, copies the tables there and
 * loads the kernels; it may take milliseconds and waits for the device. A run takes a batch of images and all
 * parameters in one go:
 *
 *   jpeg_sweep      two launches: colour, downsampling and forward DCT once for each image, then the rest for each
 *                   image and quality
 *   gaussian_blur   two: along the rows, then along the columns
 *   rotate, scale   one
 *   residual        two: down, then up and the difference
 *   tensor          one
 *
 * and nothing else: no allocation, no copy, no waiting. It can be captured into a CUDA graph.
 *
 * How far this is checked: the tests run every kernel's code on the processor, thread by thread, and compare its bytes
 * with the functions above; the kernels compile for all GPUs named in cuda/compiler.cmake. Plans, launches and speed
 * have not been tried on a GPU yet: `make gpu-check` does that.
 *
 * A build without CUDA has the same functions: those that return a status answer FIREWALL_NO_CUDA. */
#ifndef FIREWALL_CUDA_H
#define FIREWALL_CUDA_H

#include "firewall/images.h"
#include "firewall/jpeg_sweep.h"
#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct firewall_cuda_plan firewall_cuda_plan;

/* 1 if this build has CUDA code, else 0. */
int firewall_cuda_built(void);

/* FIREWALL_OK if plans can be made here; FIREWALL_NO_CUDA if this build has no CUDA code; FIREWALL_CUDA_ERROR if there
 * is no GPU, or none whose driver is new enough. */
int firewall_cuda_usable(void);

/* What CUDA said when a function of this header last answered FIREWALL_CUDA_ERROR in this thread; a static string,
 * never null. */
const char* firewall_cuda_error_text(void);

/* Each makes a plan for the current device and for up to `count` >= 1 images of height x width, writes it to *plan and
 * returns FIREWALL_OK; or another status, with *plan null. The parameters are copied. A list may not be empty.
 *
 * options of the sweep: `threads` and `instructions` are not read; the copies have the size of the source
 * (result_height and result_width are 0, or that size). coded: 0 for the int16 of firewall_residual, 1 for the bytes of
 * firewall_residual_coded. */
int firewall_cuda_jpeg_sweep_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                  const int32_t* qualities, int32_t qualities_count,
                                  const firewall_jpeg_options* options);
int firewall_cuda_gaussian_blur_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                     const float* radii, int32_t radii_count);
int firewall_cuda_rotate_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                              const double* angles, int32_t angles_count);
int firewall_cuda_scale_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                             const double* factors, int32_t factors_count, int filter);
int firewall_cuda_residual_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                                const double* shares, int32_t shares_count, int down, int up, int coded);
/* One tensor of 3 x height x width float32 an image. */
int firewall_cuda_tensor_plan(firewall_cuda_plan** plan, int32_t count, int32_t height, int32_t width,
                              const double* mean, const double* std);

/* Bytes that a run with `count` images writes; 0 for more than the plan is for, fewer than 0, or a null plan. */
size_t firewall_cuda_plan_bytes(const firewall_cuda_plan* plan, int32_t count);

/* Device memory that the plan holds, in bytes; 0 for a null plan. */
size_t firewall_cuda_plan_memory(const firewall_cuda_plan* plan);

/* destination   device memory: destination_size >= firewall_cuda_plan_bytes(plan, source->count) bytes, aligned to the
 *               numbers that are written (whole rows are faster where they begin at multiples of 4 numbers)
 * source        images in device memory, of the plan's height and width and at most its count; rows and images may lie
 *               apart as on the processor
 * stream        a cudaStream_t of the plan's device, which must be the current one; null is the default stream
 * The work is queued and the function returns. Until the stream has done it, neither buffer may be used otherwise. A
 * plan has memory of its own that a run uses: two runs of one plan must not overlap in time, so queue them on one
 * stream, or make two plans. Returns FIREWALL_OK, or another status with nothing queued; FIREWALL_CUDA_ERROR may also
 * report what an earlier launch of the process ran into. Pointers must be what they are said to be: that they point
 * into device memory is not checked. */
int firewall_cuda_run(const firewall_cuda_plan* plan, void* destination, size_t destination_size,
                      const firewall_images* source, void* stream);

/* Frees the plan and its device memory, after waiting for what still uses it. Null is nothing to do. */
void firewall_cuda_plan_free(firewall_cuda_plan* plan);

#ifdef __cplusplus
}
#endif

#endif
