//! LVM2 against lvm2 and the kernel's device mapper: every byte of every logical volume.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

mod kernel;

use kernel::{Kernel, sums};

const MIB: u64 = 1 << 20;

/// Linear, striped, mirrored and RAID volumes over four disks.
const LAYOUTS: &str = r#"
load dm-mod dm-mirror dm-raid raid1 raid10 raid456 raid0
pvcreate -q /dev/ubda /dev/ubdb /dev/ubdc >/dev/null
pvcreate -q --pvmetadatacopies 2 --dataalignment 2m /dev/ubdd >/dev/null
vgcreate -q -s 128k my-vg /dev/ubda /dev/ubdb /dev/ubdc /dev/ubdd >/dev/null
make() { name=$1; shift; lvcreate -q -y -Wn -Zn -n "$name" "$@" my-vg >/dev/null 2>/tmp/err || { cat /tmp/err; exit 9; }; fill "/dev/mapper/my--vg-$(echo "$name" | sed s/-/--/g)" "$name"; }
make linear -L 2m
make between -L 1m
lvextend -q -L +3m my-vg/linear >/dev/null
fill /dev/mapper/my--vg-linear more
make striped-a -i 3 -I 16k -L 3m
make mirror --type mirror -m1 --mirrorlog core -L 1m
make logged --type mirror -m1 -L 1m
make raid1 --type raid1 -m1 -L 1m
make raid0 --type raid0 -i 3 -I 8k -L 3m
make raid4 --type raid4 -i 2 -I 8k -L 2m
make raid5 --type raid5 -i 2 -I 8k -L 2m
make raid5la --type raid5_la -i 3 -I 8k -L 3m
make raid5ra --type raid5_ra -i 3 -I 4k -L 3m
make raid5rs --type raid5_rs -i 2 -I 8k -L 2m
make raid5n --type raid5_n -i 2 -I 8k -L 2m
make raid10 --type raid10 -i 2 -m 1 -I 8k -L 2m
lvextend -q -L +2m my-vg/striped-a -i 2 >/dev/null 2>&1 || true
fill /dev/mapper/my--vg-striped--a again
sync
for lv in /dev/mapper/my--vg-*; do case $lv in *_rimage_*|*_rmeta_*|*_mimage_*|*_mlog*) ;; *) sum "$(basename "$lv")" "$lv" ;; esac; done
lvs -a -o lv_name,segtype,devices my-vg > /tmp/out/lvs
vgchange -q -an my-vg >/dev/null
"#;

#[test]
fn every_layout_is_what_the_kernel_reads() {
    let kernel = Kernel::new(&[48 * MIB; 4]);
    let expected = kernel.run(LAYOUTS);
    let map = kernel.volumes(|_| true);
    assert!(map.gaps.is_empty(), "{:#?}", map.gaps);
    let mut seen = 0;
    for (mapped, sum) in &expected {
        let device = format!("/dev/mapper/{mapped}");
        let volume = map
            .volumes
            .iter()
            .find(|volume| volume.info.device_names.contains(&device))
            .unwrap_or_else(|| panic!("{mapped} is missing"));
        assert_eq!(sums(&map)[&volume.info.name], *sum, "{mapped}");
        seen += 1;
    }
    assert_eq!(seen, map.volumes.len(), "{:?}", sums(&map).keys());
}
