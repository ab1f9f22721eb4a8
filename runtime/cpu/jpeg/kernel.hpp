// The sweep itself, written once for vectors of any number of lanes (lanes.hpp) and included by one file for each set
// of instructions.
//
// All arithmetic is that of libjpeg-turbo's slow integer path, so the bytes are its bytes: linear integer maps with one
// rounding may be reordered freely up to that rounding, and nothing else is.
#pragma once

#include "prepare.hpp"
#include "render.hpp"
