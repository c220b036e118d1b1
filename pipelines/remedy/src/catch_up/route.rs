//! The ways to bring a sleeping machine up to date, beside each other.

use serde::{Deserialize, Serialize};

use super::cost::{Cost, copying, offline};
use super::{Recommended, Wake};

/// How a machine sleeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sleep {
    /// It was shut down, or stopped without its memory being saved.
    #[default]
    Cold,
    /// Its memory was saved, so many bytes; 0 where nothing says how many.
    Suspended {
        /// Bytes of memory and devices.
        bytes: u64,
    },
    /// Its own system saved its memory in swap space or a file.
    Hibernated {
        /// Where.
        place: String,
    },
    /// It does not sleep.
    Awake,
}

impl Sleep {
    /// What there is to keep of its memory, if there is any.
    pub(super) fn memory_note(&self) -> Option<String> {
        let until = "until nobody needs them as evidence";
        match self {
            Self::Suspended { bytes: 0 } => Some(format!(
                "keep the saved memory and the disk beside it as they are {until}"
            )),
            Self::Suspended { bytes } => Some(format!(
                "keep the {bytes} bytes of saved memory as they are {until}"
            )),
            Self::Hibernated { place } => Some(format!(
                "keep a copy of the hibernated memory in {place}, with its disk, {until}"
            )),
            Self::Cold | Self::Awake => None,
        }
    }
}

/// What a restore point is among the states of its machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The state that the machine starts in.
    #[default]
    Active,
    /// An older state that it may be reverted to, and others may stand on.
    Older,
}

/// What decides between the routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// How it sleeps.
    pub sleep: Sleep,
    /// What the point is.
    pub standing: Standing,
    /// Why its filesystems cannot be written offline even without saved memory, if they cannot.
    pub unwritable: Option<String>,
    /// Bytes of the guest's disk that a clone must hold.
    pub disk_bytes: u64,
    /// The image's name, for the commands of a route.
    pub image: String,
    /// The restore point's id, likewise.
    pub point: String,
}

/// The names of the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteName {
    /// Wake it, isolated, and let it catch up.
    WakeAndCatchUp,
    /// Give up the saved memory, once it is archived and attested, and patch the disk cold.
    DiscardAndPatchCold,
    /// Patch a clone, and switch to it.
    PatchCloneAndSwitch,
}

impl RouteName {
    /// The name as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WakeAndCatchUp => "wake-and-catch-up",
            Self::DiscardAndPatchCold => "discard-and-patch-cold",
            Self::PatchCloneAndSwitch => "patch-clone-and-switch",
        }
    }
}

/// One way to bring the machine up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Route {
    /// Which.
    pub route: RouteName,
    /// Why it is not to be had, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impossible: Option<String>,
    /// What is to be done, in order, one clause or command each.
    pub steps: Vec<String>,
    /// What is lost by it, one clause each.
    pub loses: Vec<String>,
    /// Seconds in which the machine is awake with its old packages.
    pub exposed_seconds: u64,
    /// Seconds in all.
    pub seconds: u64,
    /// Bytes of disk that it takes, beside the bundle.
    pub disk_bytes: u64,
}

/// The three routes, and which to take.
pub(super) fn routes(wake: &Wake<'_>, cost: &Cost, reboots: bool) -> (Vec<Route>, Recommended) {
    let routes = vec![
        catch_up(wake, cost, reboots),
        discard(wake, cost),
        clone(wake, cost),
    ];
    let recommended = recommend(wake, &routes, reboots);
    (routes, recommended)
}

fn catch_up(wake: &Wake<'_>, cost: &Cost, reboots: bool) -> Route {
    let here = &wake.circumstances;
    let mut steps = Vec::new();
    steps.extend(look_first(wake));
    if let Some(note) = here.sleep.memory_note().filter(|_| wake.manner.keep_memory) {
        steps.push(note);
    }
    match (&here.sleep, here.standing) {
        (Sleep::Awake, _) => {}
        (Sleep::Suspended { .. } | Sleep::Hibernated { .. }, Standing::Active) => {
            steps.push("resume it with its network cut off and the bundle attached".to_owned());
        }
        (Sleep::Cold, Standing::Active) => {
            steps.push("start it with its network cut off and the bundle attached".to_owned());
        }
        (_, Standing::Older) => {
            steps.push("revert to it with its network cut off and the bundle attached".to_owned());
        }
    }
    steps.push("run the bundle's catch-up.sh as root in it".to_owned());
    if reboots {
        steps.push("start it anew".to_owned());
    }
    steps.push("judge it again with `dormouse check`, and give it its network back".to_owned());
    let memory = matches!(
        here.sleep,
        Sleep::Suspended { .. } | Sleep::Hibernated { .. }
    );
    let loses = (reboots && memory).then(|| {
        "what its processes hold in memory, at the restart, once they were told to end".to_owned()
    });
    Route {
        route: RouteName::WakeAndCatchUp,
        impossible: None,
        steps,
        loses: loses.into_iter().collect(),
        exposed_seconds: cost.seconds,
        seconds: cost.seconds,
        disk_bytes: cost.expected_bytes,
    }
}

fn discard(wake: &Wake<'_>, cost: &Cost) -> Route {
    let here = &wake.circumstances;
    let memory = matches!(
        here.sleep,
        Sleep::Suspended { .. } | Sleep::Hibernated { .. }
    );
    let impossible = match (&here.sleep, here.standing) {
        (Sleep::Awake, _) => {
            Some("it is awake: there is no saved memory, and its disk is in use".to_owned())
        }
        (_, Standing::Older) => Some(
            "others may stand on an older state, and what was taken of it is its purpose"
                .to_owned(),
        ),
        _ => here.unwritable.clone(),
    };
    let image = &here.image;
    let mut steps: Vec<String> = look_first(wake).into_iter().collect();
    if memory {
        steps.push(format!(
            "archive its saved memory and disk, and attest them: `dormouse run audit` over {image}, with a key"
        ));
        steps.push("discard the saved memory by the means of its hypervisor".to_owned());
    }
    steps.push(format!(
        "`dormouse patch {image} -o` a new overlay, and point the machine at it"
    ));
    Route {
        route: RouteName::DiscardAndPatchCold,
        impossible,
        steps,
        loses: memory
            .then(|| {
                "all that is in its memory and not on its disk; its filesystems are as after a power cut".to_owned()
            })
            .into_iter()
            .collect(),
        exposed_seconds: 0,
        seconds: offline(wake.plan),
        disk_bytes: cost.expected_bytes,
    }
}

fn clone(wake: &Wake<'_>, cost: &Cost) -> Route {
    let here = &wake.circumstances;
    let memory = matches!(
        here.sleep,
        Sleep::Suspended { .. } | Sleep::Hibernated { .. }
    );
    let impossible = match here.sleep {
        Sleep::Awake => Some("it is awake, and a disk in use is not copied soundly".to_owned()),
        _ => here.unwritable.clone(),
    };
    let (image, point) = (&here.image, &here.point);
    let mut steps: Vec<String> = look_first(wake).into_iter().collect();
    if memory {
        steps.push(format!(
            "copy the disk without its memory: `qemu-img convert` {image}{} to a clone",
            if here.standing == Standing::Older {
                format!(" at {point}")
            } else {
                String::new()
            }
        ));
        steps.push("`dormouse patch` the clone".to_owned());
    } else {
        steps.push(format!(
            "`dormouse patch {image} --point {point} --standalone -o` a clone"
        ));
    }
    steps.push(
        "start the clone in the machine's place, and keep the machine asleep until nobody needs it"
            .to_owned(),
    );
    let mut loses = vec!["nothing of the machine itself, which sleeps on".to_owned()];
    if memory {
        loses.push(
            "in the clone, all that is in memory and not on disk; its filesystems are as after a power cut"
                .to_owned(),
        );
    }
    Route {
        route: RouteName::PatchCloneAndSwitch,
        impossible,
        steps,
        loses,
        exposed_seconds: 0,
        seconds: offline(wake.plan).saturating_add(copying(here.disk_bytes)),
        disk_bytes: here.disk_bytes.saturating_add(cost.expected_bytes),
    }
}

fn look_first(wake: &Wake<'_>) -> Option<String> {
    (!wake.manner.triage.is_empty())
        .then(|| "look for signs of an intrusion, in its memory and on its disk, before anything is changed".to_owned())
}

/// Evidence before all; then what was being done in memory; then no exposure at all.
fn recommend(wake: &Wake<'_>, routes: &[Route], reboots: bool) -> Recommended {
    let can = |name: RouteName| {
        routes
            .iter()
            .any(|route| route.route == name && route.impossible.is_none())
    };
    let say = |route, because: &str| Recommended {
        route,
        because: because.to_owned(),
    };
    let here = &wake.circumstances;
    if !wake.manner.triage.is_empty() && can(RouteName::PatchCloneAndSwitch) {
        return say(
            RouteName::PatchCloneAndSwitch,
            "findings ask for a look at the machine as it is, and a clone leaves it so",
        );
    }
    match (&here.sleep, here.standing) {
        (Sleep::Suspended { .. } | Sleep::Hibernated { .. }, _) => say(
            RouteName::WakeAndCatchUp,
            if reboots {
                "its processes end in order at the restart, in the place of being cut off"
            } else {
                "what its processes hold in memory is kept"
            },
        ),
        (Sleep::Cold, Standing::Older) if can(RouteName::PatchCloneAndSwitch) => say(
            RouteName::PatchCloneAndSwitch,
            "whoever reverts would have to catch up each time, and a clone is never awake with old packages",
        ),
        (Sleep::Cold, Standing::Active) if can(RouteName::DiscardAndPatchCold) => say(
            RouteName::DiscardAndPatchCold,
            "there is no memory to lose, and it is never awake with old packages",
        ),
        (Sleep::Awake, _) => say(RouteName::WakeAndCatchUp, "it is awake"),
        (Sleep::Cold, _) => say(
            RouteName::WakeAndCatchUp,
            "its disk cannot be patched while it sleeps",
        ),
    }
}
