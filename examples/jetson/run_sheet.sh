#!/bin/sh
# Everything that is to be known of a Jetson, in one go: sets up what is needed, checks the board, builds plans, compares
# every runtime with the processor, measures in each power mode, and leaves one JSON and one page to send back.
#
#   sh examples/jetson/run_sheet.sh [--out DIR] [--watts 15,30,60|off] [--yes] [--quick]
#
# Start it as yourself, not as root: it asks before it changes the power mode, and sudo asks for your password then. Stop
# it with Ctrl-C at any time, and start it again to go on. Nothing is sent anywhere. See docs/jetson.md.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
say() { printf '%s\n' "$*" >&2; }

tree=${DEVICE_TREE:-/proc/device-tree}
case "$(tr -d '\0' 2>/dev/null <"$tree/compatible")" in
*nvidia,tegra*) ;;
*)
    say "run_sheet.sh: this machine is no Jetson (nothing of NVIDIA Tegra in /proc/device-tree); nothing was done"
    exit 2
    ;;
esac

# One that is set up already is used as it is.
python=${PYTHON:-python3}
venv=${VENV:-$here/.venv}
if ! "$venv/bin/python" -c 'import firewall' 2>/dev/null; then
    say "setting up $venv (some minutes, once) ..."
    "$python" -m venv --system-site-packages "$venv" || {
        say "run_sheet.sh: no virtual environment can be made: sudo apt install python3-venv python3-dev g++ make"
        exit 1
    }
    "$venv/bin/python" -m pip install -q -c "$here/constraints.txt" -e "${here}[gpu]" onnx || {
        say "run_sheet.sh: the firewall can't be installed, see above: sudo apt install python3-dev g++ make"
        exit 1
    }
fi

# The test of the CUDA kernels, where the CUDA toolkit and cmake are and NO_KERNELS is not set; the sheet goes on without.
cmake=$(command -v cmake || true)
[ -x "$venv/bin/cmake" ] && cmake=$venv/bin/cmake
nvcc=$(command -v nvcc || true)
[ -z "$nvcc" ] && [ -x /usr/local/cuda/bin/nvcc ] && nvcc=/usr/local/cuda/bin/nvcc
parity=$here/build/gpu/tests/native/gpu_parity
if [ -z "${NO_KERNELS:-}" ] && [ ! -x "$parity" ] && [ -n "$cmake" ] && [ -n "$nvcc" ]; then
    say "compiling the test of the CUDA kernels (some minutes, once) ..."
    mkdir -p "$here/build"
    if ! { CUDACXX=$nvcc "$cmake" -S "$here" -B "$here/build/gpu" -DCMAKE_BUILD_TYPE=Release -DFIREWALL_BUILD_TESTS=ON \
        -DFIREWALL_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native &&
        "$cmake" --build "$here/build/gpu" --parallel 2 --target gpu_parity; } >"$here/build/gpu.log" 2>&1; then
        say "it can't be compiled (see build/gpu.log); the sheet goes on without"
    fi
fi
exec "$venv/bin/python" -m firewall bench jetson-sheet "$@"
