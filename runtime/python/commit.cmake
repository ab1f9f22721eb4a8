# Which commit a build is of, for `firewall doctor --json` and the audit log: commit.txt beside the package's modules.
# Only where this is a checkout and git is there: an unpacked source distribution has none, also inside of another
# project's checkout. As a script: cmake -DSOURCE=FOLDER -DFILE=commit.txt -P commit.cmake
function(firewall_commit SOURCE FILE)
  file(REMOVE "${FILE}")
  find_program(FIREWALL_GIT git)
  if(NOT FIREWALL_GIT)
    return()
  endif()
  execute_process(
    COMMAND "${FIREWALL_GIT}" -C "${SOURCE}" rev-parse --show-toplevel HEAD
    RESULT_VARIABLE failed OUTPUT_VARIABLE told ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed OR NOT told MATCHES "^(.*)\n([0-9a-f]+)$")
    return()
  endif()
  set(commit "${CMAKE_MATCH_2}")
  get_filename_component(top "${CMAKE_MATCH_1}" REALPATH)
  get_filename_component(source "${SOURCE}" REALPATH)
  if(NOT top STREQUAL source)
    return()
  endif()
  execute_process(
    COMMAND "${FIREWALL_GIT}" -C "${SOURCE}" status --porcelain --untracked-files=no
    RESULT_VARIABLE failed OUTPUT_VARIABLE changes ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed OR changes)
    string(APPEND commit "-changed")  # files that git knows are not as that commit has them
  endif()
  file(WRITE "${FILE}" "${commit}\n")
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  firewall_commit("${SOURCE}" "${FILE}")
endif()
