//! Installed packages of a guest, and each package family's version order.
