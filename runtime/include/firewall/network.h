/* A small convolutional network on one thread of the processor: what classifies signs and their copies.
 *
 * Convolutions of 3 x 3 with stride 1 are computed by Winograd's minimal filtering (Lavin and Gray 2016), with a half
 * to a quarter of the multiplications, all others directly. Numbers are float32. Every set of vector instructions gives
 * the same bits, and an image gets the same bits whatever other images are in the batch. */
#ifndef FIREWALL_NETWORK_H
#define FIREWALL_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Convolution of all channels, with bias; zeros beyond the borders. A matrix product is one of 1 x 1 on one pixel. */
#define FIREWALL_LAYER_CONVOLUTION 0
/* One window as large as the image, for each channel by itself: output c reads channel c / (channels / those before).
 */
#define FIREWALL_LAYER_WHOLE 1

/* What is done to the input's numbers before the first layer. */
#define FIREWALL_PREPARE_SHIFTED 0 /* (x - first) * second */
/* x - m, divided by sqrt(mean over window and colours of (x - m)^2 + second), m the mean of the window of its colour,
 * which is first x first and reads only what lies within the image. first: odd, 1 to 63. second: above 0. */
#define FIREWALL_PREPARE_LOCAL_CONTRAST 1

#define FIREWALL_NETWORK_MOST_LAYERS 64
#define FIREWALL_NETWORK_MOST_CHANNELS 512
#define FIREWALL_NETWORK_MOST_SIDE 256
/* Numbers in memory, weights and what a run needs: 64 MB. */
#define FIREWALL_NETWORK_MOST_NUMBERS 16777216

typedef struct firewall_layer {
  int32_t kind;
  int32_t input;     /* the layer whose output is read, from 0; -1: the network's input */
  int32_t added;     /* the layer whose output is added to this one's; -1: none */
  int32_t channels;  /* of the output: a multiple of 16, unless it is the last layer */
  int32_t kernel;    /* side of the window, 1 to 16; WHOLE: the image's */
  int32_t stride;    /* 1 to 4 */
  int32_t padding;   /* pixels of zeros on each side, below kernel */
  int32_t rectified; /* not 0: what is below 0 becomes 0, after the addition */
  const float*
      weights;       /* CONVOLUTION: channels x input channels x kernel x kernel; WHOLE: channels x kernel x kernel */
  const float* bias; /* channels */
} firewall_layer;

typedef struct firewall_network firewall_network;

/* Makes a network that reads images of 3 x side x side. Allocates, and keeps a copy of the weights. The result lies at
 * *network, null if the call fails. The last layer's image must be one pixel; its channels are the output.
 * Returns FIREWALL_OK, FIREWALL_NULL_POINTER, FIREWALL_BAD_SIZE for what does not fit together or goes beyond the
 * limits above, or FIREWALL_BAD_PARAMETER for an unknown kind or a number that is not finite. */
int firewall_network_open(firewall_network** network, int32_t side, int32_t prepare, float first, float second,
                          const firewall_layer* layers, int32_t layers_count);

/* Another one with the same weights, which it shares, and memory of its own: the two may run at the same time.
 * Allocates. Returns FIREWALL_OK, FIREWALL_NULL_POINTER, or FIREWALL_BAD_SIZE where there is no memory. */
int firewall_network_share(firewall_network** network, const firewall_network* other);

/* Frees it; null is allowed. What shares its weights can still be run. */
void firewall_network_close(firewall_network* network);

/* Numbers of an output. */
int32_t firewall_network_outputs(const firewall_network* network);

/* output   count x outputs, without gaps
 * input    count x 3 x side x side, without gaps
 * Never allocates. It may run only once at a time.
 * Returns FIREWALL_OK, FIREWALL_NULL_POINTER, or FIREWALL_BAD_SIZE for a count below 0. */
int firewall_network_run(firewall_network* network, float* output, const float* input, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
