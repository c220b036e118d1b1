//! Each fixture by name, held against libhivex; and hives left in the middle of a write, with their logs.

use std::path::Path;
use std::sync::Arc;

use dormouse_block::{Bytes, Digest, ErrorKind, Source};
use dormouse_packages::windows::regf::{Condition, Hive};

use crate::hostile::seal;
use crate::oracle::{ALL, dump, hivex, source, unpack};

/// Where libhivex and we part, and on which side what is known of the hive stands.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Both find the same keys, values and data.
    Same,
    /// Both refuse it, or a part of it.
    Refused(ErrorKind),
    /// Only we refuse it: its author made a key whose parent is another key, or a list that leads to one.
    OnlyWeRefuse(ErrorKind),
    /// Only libhivex refuses it: a name with half a surrogate pair, which we replace.
    OnlyWeRead,
}

fn expected(name: &str) -> Outcome {
    use ErrorKind::Corrupt;
    match name {
        "yarp/BadListHive" | "yarp/BadSubkeyHive" => Outcome::OnlyWeRefuse(Corrupt),
        "yarp/TruncatedPairHive" => Outcome::OnlyWeRead,
        "regipy/corrupted_system_hive"
        | "yarp/DeletedDataHiveTruncated"
        | "yarp/GarbageHive"
        | "yarp/InvalidParentFragment"
        | "yarp/SqliteFragment.sqlite"
        | "yarp/TruncatedDirtyHive"
        | "yarp/TruncatedHiveBin" => Outcome::Refused(Corrupt),
        log if log.starts_with("yarp/Discovery/")
            || log.to_ascii_lowercase().contains(".log")
            || log == "yarp/OldLogWithRemnantData" =>
        {
            Outcome::Refused(Corrupt)
        }
        _ => Outcome::Same,
    }
}

#[test]
fn hives_have_the_keys_and_values_that_libhivex_finds() {
    let folder = tempfile::tempdir().unwrap();
    let names = unpack(folder.path(), ALL);
    assert!(names.len() > 50, "{names:?}");
    let mut same = 0;
    for name in names {
        let path = folder.path().join(&name);
        // The largest are held against it below one key each, so that this takes seconds.
        let top = match name.as_str() {
            "plaso/SOFTWARE-win7sp1-x86" => {
                r"Microsoft\Windows\CurrentVersion\Component Based Servicing"
            }
            "regipy/SYSTEM" => r"ControlSet001\Services",
            "regipy/SYSTEM_2" => r"ControlSet001\Control",
            _ => "",
        };
        let ours = Hive::open(source(&path), &[]).and_then(|hive| dump(&hive, top));
        let theirs = hivex(&path, top);
        let outcome = match (&ours, &theirs) {
            (Ok(ours), Some(theirs)) => {
                let differ = ours.lines().zip(theirs.lines()).find(|(a, b)| a != b);
                assert_eq!(differ, None, "{name}");
                assert_eq!(ours.len(), theirs.len(), "{name}");
                same += 1;
                Outcome::Same
            }
            (Err(error), None) => Outcome::Refused(error.kind()),
            (Err(error), Some(_)) => Outcome::OnlyWeRefuse(error.kind()),
            (Ok(_), None) => Outcome::OnlyWeRead,
        };
        assert_eq!(outcome, expected(&name), "{name}: {:?}", ours.err());
    }
    assert_eq!(same, 29);
}

fn recovered(entries: usize, hive: &Hive) {
    let Condition::Recovered {
        entries: applied, ..
    } = hive.condition()
    else {
        panic!("{:?}", hive.condition());
    };
    assert_eq!(*applied, entries);
}

/// The SHA-256 of the file that `primary` would be after recovery, its last log entry being number `sequence`.
fn whole(hive: &Hive, primary: &dyn Source, sequence: u32, bins: u32) -> String {
    let mut file = vec![0; usize::try_from(primary.len()).unwrap()];
    primary.read_exact_at(0, &mut file).unwrap();
    file[4..8].copy_from_slice(&sequence.to_le_bytes());
    file[8..12].copy_from_slice(&sequence.to_le_bytes());
    file[40..44].copy_from_slice(&bins.to_le_bytes());
    seal(&mut file);
    let mut at = 4096;
    hive.bins(|part| {
        file[at..at + part.len()].copy_from_slice(part);
        at += part.len();
        Ok(())
    })
    .unwrap();
    assert_eq!(at, 4096 + usize::try_from(bins).unwrap());
    Digest::of(&file).to_string()
}

/// The SHA-256 of the file that yarp, by the author of the format's specification, recovers from the same three files.
const NTUSER: &str = "sha256:0a7a7b2d1eb24ab63455f5a83e554601d88fe558d0ba1c1068a7e1102c79a092";

fn ntuser(folder: &Path) -> (Arc<dyn Source>, Vec<Arc<dyn Source>>) {
    let of = |name: &str| source(&folder.join("regipy").join(name));
    let logs = [
        "transactions_ntuser.dat.log1",
        "transactions_ntuser.dat.log2",
    ];
    (of("transactions_NTUSER.DAT"), logs.map(of).into())
}

fn changed(file: &dyn Source, at: u64) -> Arc<dyn Source> {
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    Arc::new(Bytes::new(bytes))
}

#[test]
fn entries_of_new_logs_make_a_dirty_hive_whole() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &["regipy"]);
    let (primary, logs) = ntuser(folder.path());
    let hive = Hive::open(primary.clone(), &logs).unwrap();
    recovered(23, &hive);
    assert_eq!(hive.sequence(), 588);
    assert_eq!(whole(&hive, &primary, 588, 925_696), NTUSER);
    dump(&hive, "").unwrap();
    // What only the log has.
    let key = r"Software\Microsoft\Payment\PaymentApps";
    assert!(hive.key(key).unwrap().is_some());
    let before = Hive::open(primary.clone(), &[]).unwrap();
    assert!(before.key(key).unwrap().is_none());
    // In whatever order the logs come.
    let turned: Vec<_> = logs.iter().rev().cloned().collect();
    let hive = Hive::open(primary.clone(), &turned).unwrap();
    assert_eq!(whole(&hive, &primary, 588, 925_696), NTUSER);
    // The log of an earlier write says nothing of this one.
    let stale = Hive::open(primary.clone(), &logs[1..]).unwrap();
    assert_eq!(
        *stale.condition(),
        Condition::Dirty("no transaction log fits it".into())
    );
    // With the hive's own base block torn, the later log's takes its place; without a log there is none.
    let torn = changed(&primary, 300);
    let hive = Hive::open(torn.clone(), &logs).unwrap();
    assert_eq!(whole(&hive, &primary, 588, 925_696), NTUSER);
    assert_eq!(
        Hive::open(torn, &[]).err().unwrap().kind(),
        ErrorKind::Corrupt
    );
    // Entries count up to the first whose checksum is wrong: 566, 567, and 568 is torn.
    let torn = changed(&logs[0], 348_160 + 4096);
    let hive = Hive::open(primary.clone(), &[torn]).unwrap();
    recovered(2, &hive);
    assert_eq!(hive.sequence(), 567);
    // The same in the entry's header, and in the log's base block.
    let hive = Hive::open(primary.clone(), &[changed(&logs[0], 241_664 + 8)]).unwrap();
    recovered(1, &hive);
    let hive = Hive::open(primary, &[changed(&logs[0], 100)]).unwrap();
    assert!(matches!(hive.condition(), Condition::Dirty(_)));
}

/// yarp's own tests: of `NewDirtyHive2` the second log alone is applied, up to the fifth write.
#[test]
fn logs_of_earlier_writes_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &["yarp"]);
    let of = |name: &str| source(&folder.path().join("yarp/NewDirtyHive2").join(name));
    let logs = [of("NewDirtyHive.LOG1"), of("NewDirtyHive.LOG2")];
    let hive = Hive::open(of("NewDirtyHive"), &logs).unwrap();
    recovered(3, &hive);
    assert_eq!(hive.sequence(), 5);
    dump(&hive, "").unwrap();
    let hive = Hive::open(of("NewDirtyHive"), &logs[..1]).unwrap();
    assert!(matches!(hive.condition(), Condition::Dirty(_)));
}

/// yarp's own tests: of this hive and its log of the old form, `1` is gone after recovery, `5000` has a subkey and `4500` a
/// value; with the log's dirty vector broken (`BadLogHive2`) there is no recovery.
#[test]
fn dirty_vectors_of_old_logs_make_a_dirty_hive_whole() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &["yarp"]);
    let yarp = folder.path().join("yarp");
    let primary = source(&yarp.join("BadLogHive2/BadLogHive"));
    let bad = ["BadLogHive.LOG1", "BadLogHive.LOG2"]
        .map(|name| source(&yarp.join("BadLogHive2").join(name)));
    let hive = Hive::open(primary.clone(), &bad).unwrap();
    assert_eq!(
        *hive.condition(),
        Condition::Dirty("no transaction log fits it".into())
    );
    let many = "key_with_many_subkeys";
    assert!(hive.key(&format!(r"{many}\1")).unwrap().is_some());

    let log = source(&yarp.join("OldLogWithRemnantData"));
    let hive = Hive::open(primary.clone(), std::slice::from_ref(&log)).unwrap();
    recovered(1, &hive);
    assert!(hive.key(&format!(r"{many}\1")).unwrap().is_none());
    assert!(
        hive.key(&format!(r"{many}\5000\find_me_in_log"))
            .unwrap()
            .is_some()
    );
    let value = hive
        .key(&format!(r"KEY_with_many_subkeys\4500"))
        .unwrap()
        .unwrap();
    let data = value.value("v").unwrap().unwrap().data().unwrap();
    let text: Vec<u8> = data.into_iter().step_by(2).collect();
    assert_eq!(text, b"a\0bb\0ccc\0\0");
    dump(&hive, "").unwrap();

    // A log of another write is no help, nor one that ends within its pages.
    assert!(matches!(
        Hive::open(primary.clone(), &[changed(&log, 12)])
            .unwrap()
            .condition(),
        Condition::Dirty(_)
    ));
    let mut short = vec![0; 2048];
    log.read_exact_at(0, &mut short).unwrap();
    let hive = Hive::open(primary, &[Arc::new(Bytes::new(short))]).unwrap();
    assert!(matches!(hive.condition(), Condition::Dirty(_)));
    assert!(hive.key(&format!(r"{many}\1")).unwrap().is_some());
}

#[test]
fn a_clean_hive_is_read_without_its_logs() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &["regipy"]);
    let (_, logs) = ntuser(folder.path());
    let hive = Hive::open(source(&folder.path().join("regipy/NTUSER.DAT")), &logs).unwrap();
    assert_eq!(*hive.condition(), Condition::Clean);
}
