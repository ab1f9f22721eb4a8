/* Pixels as a network reads them: colours apart, and each number (value / 255 - mean) / std in float32.
 *
 * That is value * scale + shift, both operations rounded to the nearest, where scale is 1 / (255 * std) and shift is
 * -mean / std, computed in float64 and rounded to float32: the numbers that the JPEG sweep writes by itself
 * (FIREWALL_JPEG_FLOAT32). Every set of vector instructions gives the same. */
#ifndef FIREWALL_TENSOR_H
#define FIREWALL_TENSOR_H

#include "firewall/images.h"
#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* destination   count x 3 x height x width numbers, without gaps
 * source        the images; safe for any pixel values
 * mean, std     three numbers each, for R, G and B: finite, std above 0
 * Returns FIREWALL_OK, or another status with the destination untouched. Needs no scratch. */
int firewall_tensor(float* destination, const firewall_images* source, const double* mean, const double* std);

/* One image as it is, value by value, into the upper left of planes of plane_height x plane_width, which it may not go
 * beyond: what a network reads that takes a whole frame.
 *
 * destination   3 x plane_height x plane_width numbers, without gaps; those beyond the image are not touched
 * source        one image
 * Returns as firewall_tensor. */
int firewall_planes(float* destination, int32_t plane_height, int32_t plane_width, const firewall_images* source);

#ifdef __cplusplus
}
#endif

#endif
