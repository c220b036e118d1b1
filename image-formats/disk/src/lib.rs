//! Disk image formats: containers, backing chains, restore points, saved memory.
