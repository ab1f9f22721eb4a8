# FIREWALL_WITH_CUDA: whether FIREWALL_CUDA asks for CUDA and a compiler is there. Included at the top, where a language
# has to be enabled.
set(FIREWALL_WITH_CUDA OFF)
string(TOUPPER "${FIREWALL_CUDA}" FIREWALL_CUDA_ASKED)
if(NOT FIREWALL_CUDA_ASKED)
  return()
endif()
include(CheckLanguage)
# Asked before the language is looked for, which fills it in.
set(FIREWALL_CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(FIREWALL_CUDA_ASKED STREQUAL "AUTO")
    return()
  endif()
  message(FATAL_ERROR
    "FIREWALL_CUDA is ON, but no CUDA compiler (nvcc) was found.\n"
    "Install the CUDA toolkit and put its nvcc on PATH, or name it: CUDACXX=/path/to/nvcc.\n"
    "FIREWALL_CUDA=AUTO builds without CUDA where there is none, FIREWALL_CUDA=OFF always.")
endif()
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
if(NOT FIREWALL_CUDA_ARCHITECTURES)
  # Orin, Hopper and, if the toolkit knows it, Thor; and PTX, from which a driver makes code for all others from Ampere
  # on.
  set(FIREWALL_CUDA_ARCHITECTURES 80-virtual 87-real 90)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0)
    list(APPEND FIREWALL_CUDA_ARCHITECTURES 110)
  endif()
endif()
set(CMAKE_CUDA_ARCHITECTURES "${FIREWALL_CUDA_ARCHITECTURES}")
find_package(CUDAToolkit REQUIRED)
set(FIREWALL_WITH_CUDA ON)
