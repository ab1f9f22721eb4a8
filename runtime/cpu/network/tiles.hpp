// Winograd's matrices of filters of 3 for tiles of 2, 3 and 4 (Lavin and Gray, "Fast algorithms for convolutional
// neural networks", 2016, with the points 0, 1, -1 and 2, -2 of larger tiles). Internal.
#pragma once

namespace firewall {

// A tile of N results is made of N + 2 numbers at as many places.
template <int N>
struct Tile;

template <>
struct Tile<2> {
  static constexpr float into[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
  static constexpr float out_of[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
  static constexpr double filter[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
};

template <>
struct Tile<3> {
  static constexpr float into[5][5] = {
      {2, -1, -2, 1, 0}, {0, -2, -1, 1, 0}, {0, 2, -3, 1, 0}, {0, -1, 0, 1, 0}, {0, 2, -1, -2, 1}};
  static constexpr float out_of[3][5] = {{1, 1, 1, 1, 0}, {0, 1, -1, 2, 0}, {0, 1, 1, 4, 1}};
  static constexpr double filter[5][3] = {{1.0 / 2, 0, 0},
                                          {-1.0 / 2, -1.0 / 2, -1.0 / 2},
                                          {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                          {1.0 / 6, 1.0 / 3, 2.0 / 3},
                                          {0, 0, 1}};
};

template <>
struct Tile<4> {
  static constexpr float into[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                       {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
  static constexpr float out_of[4][6] = {
      {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};
  static constexpr double filter[6][3] = {{1.0 / 4, 0, 0},
                                          {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                          {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                          {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                          {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                          {0, 0, 1}};
};

}  // namespace firewall
