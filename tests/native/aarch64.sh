#!/bin/sh
# The native tests for aarch64, run here by an emulator: the NEON kernels give the bytes that the x86-64 ones give, for
# the tests hold both to the same numbers. `make aarch64-test` installs what is missing and does this; without make, from
# the root of the checkout:
#   apt-get install g++-aarch64-linux-gnu qemu-user-static
#   tests/native/aarch64.sh [build folder]
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/aarch64}
for tool in aarch64-linux-gnu-g++ qemu-aarch64-static; do
  command -v "$tool" > /dev/null || {
    echo "$tool was not found; install it: apt-get install g++-aarch64-linux-gnu qemu-user-static" >&2
    exit 2
  }
done
cmake -S . -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
  -DCMAKE_CROSSCOMPILING_EMULATOR="$(command -v qemu-aarch64-static);-L;/usr/aarch64-linux-gnu"
cmake --build "$build" --parallel "$(nproc)"
ctest --test-dir "$build" --output-on-failure
