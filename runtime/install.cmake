# What `cmake --install --component development` gives: the library, its headers, and the CMake package that
# find_package(perception_firewall) finds. The Python wheel takes the component python alone.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(FIREWALL_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/perception_firewall")

install(TARGETS firewall_runtime EXPORT perception_firewall
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development)
install(DIRECTORY include/firewall DESTINATION include COMPONENT development)
install(EXPORT perception_firewall NAMESPACE perception_firewall:: FILE perception_firewall-targets.cmake
  DESTINATION "${FIREWALL_PACKAGE_DIR}" COMPONENT development)

configure_package_config_file(perception_firewall-config.cmake.in perception_firewall-config.cmake
  INSTALL_DESTINATION "${FIREWALL_PACKAGE_DIR}" NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(perception_firewall-config-version.cmake
  VERSION "${PROJECT_VERSION}" COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/perception_firewall-config.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/perception_firewall-config-version.cmake"
  DESTINATION "${FIREWALL_PACKAGE_DIR}" COMPONENT development)
