/* Rotation of RGB images by many angles in one call.
 *
 * Defined by Pillow's Image.rotate(angle), and byte for byte equal to it: counter-clockwise about the centre, nearest
 * neighbour in 16.16 fixed point, the size of the image kept, black where the corners have left it. Multiples of 90
 * degrees are exact turns wherever the size allows. */
#ifndef FIREWALL_ROTATE_H
#define FIREWALL_ROTATE_H

#include "firewall/images.h"
#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* destination   count x angles_count x height x width x 3 bytes, without gaps
 * source        the images; safe for any pixel values
 * angles        angles_count angles in degrees, finite; positive is counter-clockwise as one looks at the image
 * Returns FIREWALL_OK, or another status with the destination untouched. Needs no scratch. */
int firewall_rotate(uint8_t* destination, const firewall_images* source, const double* angles, int32_t angles_count);

#ifdef __cplusplus
}
#endif

#endif
