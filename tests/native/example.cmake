# Builds examples/cpp in a folder of its own and runs it, on a picture that it draws and on one from a file.
#   cmake -DLIBRARY=build -DSOURCE=tree -DVERSION=x.y.z -DCOMPILER=c++ -DGENERATOR=... -DWORK=folder
#         [-DSUBDIRECTORY=ON] -P example.cmake
# LIBRARY is the build folder of the library; with SUBDIRECTORY the example builds the library itself, from SOURCE.

cmake_minimum_required(VERSION 3.20)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGV} failed: ${result}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

if(SUBDIRECTORY)
  set(work "${WORK}-subdirectory")
  set(how "-DPERCEPTION_FIREWALL_SOURCE=${SOURCE}")
else()
  set(work "${WORK}-installed")
  set(how "-DCMAKE_PREFIX_PATH=${work}/prefix")
endif()
file(REMOVE_RECURSE "${work}")
if(NOT SUBDIRECTORY)
  run("${CMAKE_COMMAND}" --install "${LIBRARY}" --component development --prefix "${work}/prefix")
endif()

# -O1, because a program that includes the library chooses the optimisation, and this one wants to be built soon.
run("${CMAKE_COMMAND}" -S "${SOURCE}/examples/cpp" -B "${work}/build" -G "${GENERATOR}"
  "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_FLAGS=-O1 -Wall -Wextra -Werror" ${how})
run("${CMAKE_COMMAND}" --build "${work}/build" --parallel 2)

set(program "${work}/build/sweep_a_picture")
run("${program}")
if(NOT output MATCHES "160x120: quality 25 changed it most")
  message(FATAL_ERROR "the example printed\n${output}")
endif()
file(WRITE "${work}/grey.ppm" "P6\n2 1\n255\nPPPPPP")
run("${program}" "${work}/grey.ppm")
if(NOT output MATCHES "quality 100: 0.000 grey levels away.*2x1: quality")
  message(FATAL_ERROR "the example printed\n${output}")
endif()
file(WRITE "${work}/broken.ppm" "P6\n2 1\n255\nP")
execute_process(COMMAND "${program}" "${work}/broken.ppm" RESULT_VARIABLE result ERROR_VARIABLE output)
if(NOT result EQUAL 1 OR NOT output MATCHES "is not a binary PPM")
  message(FATAL_ERROR "the example took a broken file: ${result}\n${output}")
endif()

file(STRINGS "${work}/build/CMakeCache.txt" cache)
if(SUBDIRECTORY)
  # A part of another build brings no tests of its own and decides nothing for it.
  foreach(line IN ITEMS "FIREWALL_BUILD_TESTS:BOOL=OFF" "FIREWALL_INSTALL:BOOL=OFF" "CMAKE_BUILD_TYPE:STRING=")
    if(NOT line IN_LIST cache)
      message(FATAL_ERROR "${line} is not what the build of the example says")
    endif()
  endforeach()
else()
  # A program that asks for a version that isn't there hears of it.
  file(WRITE "${work}/newer/CMakeLists.txt"
    "cmake_minimum_required(VERSION 3.20)\nproject(newer LANGUAGES CXX)\n"
    "find_package(perception_firewall ${VERSION} EXACT REQUIRED)\n"
    "find_package(perception_firewall 99.0 QUIET)\n"
    "if(perception_firewall_FOUND)\n  message(FATAL_ERROR \"found a version that isn't there\")\nendif()\n")
  run("${CMAKE_COMMAND}" -S "${work}/newer" -B "${work}/newer/build" "-DCMAKE_CXX_COMPILER=${COMPILER}" ${how})
endif()
