//! pkgfs
