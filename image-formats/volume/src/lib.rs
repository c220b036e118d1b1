//! Partition tables and volume managers: the volumes of a machine's disks.
