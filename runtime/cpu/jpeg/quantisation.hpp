// The standard quantisation tables at every quality, made once for the process.
#pragma once

#include "plan.hpp"

namespace firewall::jpeg {

// Row and column of the coefficient at `place` (0..63) of a block inside a group: pairs of rows (0,4) (2,6) (1,3)
// (5,7), because the inverse DCT multiplies pairs, and columns 0 4 2 6 1 3 5 7, so that its second pass finds pairs as
// well.
int row_of(int place) noexcept;
int column_of(int place) noexcept;

// Entry of the table that libjpeg uses at a quality 1..100: 1..255. table: 0 luma, 1 chroma.
int table_entry(int table, int quality, int row, int column) noexcept;

const Quantiser& quantiser(int table, int quality) noexcept;

}  // namespace firewall::jpeg
