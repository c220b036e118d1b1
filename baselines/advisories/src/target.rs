//! What a guest is, to a vendor: the releases whose statements are for it.

use dormouse_packages::{Family, Inventory, OsRelease, Package};

/// A guest's system, by which statements are told from those for other systems.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    id: String,
    version: Option<String>,
    codename: Option<String>,
    /// Names and addresses of the repositories that it is set up to ask, in small letters.
    repositories: Vec<String>,
}

/// `ID`s that Red Hat's own statements are for.
const RED_HAT: [&str; 2] = ["rhel", "centos"];
/// `ID`s of SUSE's enterprise systems, whose modules have one version.
const SUSE: [&str; 6] = [
    "sles",
    "sled",
    "sles_sap",
    "sle_hpc",
    "sle-micro",
    "sl-micro",
];
/// Red Hat's extended streams, and the word of their repositories' names.
const STREAMS: [(&str, &str); 6] = [
    ("rhel_eus", "eus"),
    ("rhel_aus", "aus"),
    ("rhel_tus", "tus"),
    ("rhel_e4s", "e4s"),
    ("rhel_els", "els"),
    ("rhel_eus_long_life", "eus"),
];
/// Red Hat's products whose repositories have another name than their CPE.
const PRODUCTS: [(&str, &str); 4] = [
    ("openshift", "rhocp"),
    ("openstack", "openstack"),
    ("rhel_software_collections", "rhscl"),
    ("jboss_core_services", "jbcs"),
];
/// `VENDOR` of the packages that a system's own vendor made, by `ID`: what the tag begins with. From the vendors' own packages.
const VENDORS: &[(&str, &[&str])] = &[
    ("rhel", &["Red Hat"]),
    ("centos", &["CentOS"]),
    ("almalinux", &["AlmaLinux"]),
    ("rocky", &["Rocky"]),
    ("ol", &["Oracle"]),
    ("amzn", &["Amazon"]),
    ("fedora", &["Fedora"]),
    ("sles", &["SUSE"]),
    ("sled", &["SUSE"]),
    ("sles_sap", &["SUSE"]),
    ("sle_hpc", &["SUSE"]),
    ("sle-micro", &["SUSE"]),
    ("sl-micro", &["SUSE"]),
    ("opensuse-leap", &["openSUSE", "SUSE"]),
    ("opensuse-tumbleweed", &["openSUSE", "SUSE"]),
    ("azurelinux", &["Microsoft"]),
    ("mariner", &["Microsoft"]),
    ("photon", &["VMware", "Broadcom"]),
    ("openEuler", &["http://openeuler.org", "openEuler"]),
    ("mageia", &["Mageia"]),
];

/// What the releases of statements about package URLs begin with: a user's own, which say nothing of whether all is told.
pub(crate) const BY_PURL: &str = "purl/";
/// Namespaces of package URLs that are no `ID` of os-release(5).
const NAMESPACES: [(&str, &str); 6] = [
    ("redhat", "rhel"),
    ("oracle", "ol"),
    ("oraclelinux", "ol"),
    ("amazon", "amzn"),
    ("rocky-linux", "rocky"),
    ("suse", "sles"),
];

impl Target {
    /// What an inventory says.
    #[must_use]
    pub fn of(inventory: &Inventory) -> Self {
        let mut target = inventory
            .os
            .as_ref()
            .map(Self::of_system)
            .unwrap_or_default();
        for repository in inventory.repositories.iter().filter(|one| one.enabled) {
            target.repositories.push(repository.name.to_lowercase());
            let addresses = repository.uris.iter().map(|uri| uri.to_lowercase());
            target.repositories.extend(addresses);
        }
        target
    }

    /// What an os-release file says.
    #[must_use]
    pub fn of_system(os: &OsRelease) -> Self {
        Self {
            id: os.id.clone(),
            version: os.version_id.clone(),
            codename: os.version_codename.clone(),
            repositories: Vec::new(),
        }
    }

    /// `almalinux 8.8`, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        let version = self.version.as_ref().or(self.codename.as_ref());
        match version {
            Some(version) => format!("{} {version}", self.id),
            None if self.id.is_empty() => "an unknown system".to_owned(),
            None => self.id.clone(),
        }
    }

    /// Whether a statement for `release` is for this system.
    pub(crate) fn is_of(&self, release: &str) -> bool {
        if release.is_empty() {
            return true;
        }
        if let Some(named) = release.strip_prefix(BY_PURL) {
            let (id, version) = named.split_once(':').unwrap_or((named, ""));
            let known = NAMESPACES.iter().find(|(namespace, _)| *namespace == id);
            let id = known.map_or(id, |(_, id)| *id);
            return id.is_empty() || (id == self.id && self.is_version(version));
        }
        if let Some(cpe) = release.strip_prefix("cpe:/") {
            return self.is_of_cpe(cpe);
        }
        let Some((id, version)) = release.split_once(':') else {
            return false;
        };
        let is_system = match id {
            // Extended maintenance counts for who is entitled to it.
            "ubuntu-pro" => self.id == "ubuntu" && self.asks("esm.ubuntu.com"),
            "suse" => SUSE.contains(&self.id.as_str()),
            _ => id == self.id,
        };
        is_system && self.is_version(version)
    }

    fn is_version(&self, version: &str) -> bool {
        version.is_empty()
            || self.codename.as_deref() == Some(version)
            || self.version.as_deref().is_some_and(|own| {
                is_within(own, version) || (version == "edge" && own.contains("_alpha"))
            })
    }

    fn asks(&self, word: &str) -> bool {
        self.repositories.iter().any(|name| name.contains(word))
    }

    /// `o:redhat:enterprise_linux:9::baseos`, without `cpe:/`.
    fn is_of_cpe(&self, cpe: &str) -> bool {
        let mut parts = cpe.split(':');
        let _part = parts.next();
        let mut next = || parts.next().unwrap_or_default();
        let (vendor, product, version, update, edition) = (next(), next(), next(), next(), next());
        let own = self.version.as_deref().unwrap_or_default();
        match vendor {
            "redhat" if RED_HAT.contains(&self.id.as_str()) => {
                if product == "enterprise_linux" {
                    return is_within(own, version);
                }
                let stream = STREAMS.iter().find(|(name, _)| *name == product);
                if let Some((_, word)) = stream {
                    let is_word =
                        |name: &String| name.split(['-', '_', '/']).any(|part| part == *word);
                    return is_within(own, version) && self.repositories.iter().any(is_word);
                }
                // Of a layered product: its packages come from its own repository.
                let alias = PRODUCTS.iter().find(|(name, _)| *name == product);
                let word =
                    alias.map_or_else(|| product.replace('_', "-"), |(_, word)| (*word).to_owned());
                let is_edition = edition
                    .strip_prefix("el")
                    .is_none_or(|major| is_within(own, major));
                !word.is_empty() && is_edition && self.asks(&word)
            }
            "suse" => {
                let version = match update.strip_prefix("sp") {
                    Some(pack) => format!("{version}.{pack}"),
                    None => version.to_owned(),
                };
                SUSE.contains(&self.id.as_str()) && own == version
            }
            "opensuse" => match product {
                "leap" => self.id == "opensuse-leap" && own == version,
                "tumbleweed" => self.id == "opensuse-tumbleweed",
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the system's own vendor says to have made a package, where both say anything: `None` where one does not.
    #[must_use]
    pub fn made(&self, package: &Package) -> Option<bool> {
        if package.family != Family::Rpm {
            return None;
        }
        let (_, vendors) = VENDORS.iter().find(|(id, _)| *id == self.id)?;
        let vendor = package.vendor.as_deref().unwrap_or_default();
        Some(vendors.iter().any(|known| vendor.starts_with(known)))
    }
}

/// Whether the version `own` is `release` or one of its parts: 8.8 is within 8 and 8.8, not within 8.1 or 80.
fn is_within(own: &str, release: &str) -> bool {
    let mut own = own.split('.');
    !release.is_empty() && release.split('.').all(|part| own.next() == Some(part))
}

/// Vendors' names of their products, and the `ID` that each has in os-release(5); the longer before the shorter.
const NAMES: &[(&str, &str)] = &[
    ("debian gnu/linux", "debian"),
    ("debian", "debian"),
    ("ubuntu", "ubuntu"),
    ("oracle linux", "ol"),
    ("almalinux", "almalinux"),
    ("rocky linux", "rocky"),
    ("rocky", "rocky"),
    ("red hat enterprise linux", "rhel"),
    ("centos", "centos"),
    ("amazon linux", "amzn"),
    ("amazon-linux", "amzn"),
    ("amazonlinux", "amzn"),
    ("fedora", "fedora"),
    ("opensuse leap", "opensuse-leap"),
    ("opensuse tumbleweed", "opensuse-tumbleweed"),
    ("opensuse", "opensuse"),
    ("suse linux enterprise server", "sles"),
    ("suse linux enterprise desktop", "sled"),
    ("suse linux enterprise", "suse"),
    ("linux enterprise server", "sles"),
    ("suse updates sle", "suse"),
    ("azure linux", "azurelinux"),
    ("cbl-mariner", "mariner"),
    ("mariner", "mariner"),
    ("vmware photon os", "photon"),
    ("photon os", "photon"),
    ("openeuler", "openEuler"),
    ("mageia", "mageia"),
];

/// The release that a vendor calls so: `Oracle Linux 8`, `SUSE Linux Enterprise Server 15 SP5`; `None` for what is no system here,
/// or has no version.
pub(crate) fn release_of(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    let (rest, id) = NAMES
        .iter()
        .find_map(|(prefix, id)| Some((name.strip_prefix(prefix)?, *id)))?;
    if id == "opensuse-tumbleweed" {
        return Some(format!("{id}:"));
    }
    // Oracle's `aarch64` and the like are no versions; SUSE writes `15-SP5` and `15 SP5`.
    let mut words = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let version = words.by_ref().find(is_version)?;
    if !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let pack = words.next().and_then(|word| word.strip_prefix("sp"));
    Some(match (id, pack) {
        ("sles" | "sled" | "suse", Some(pack)) => format!("{id}:{version}.{pack}"),
        _ => format!("{id}:{version}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: &str, version: &str, codename: &str, repositories: &[&str]) -> Target {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Target {
            id: id.into(),
            version: some(version),
            codename: some(codename),
            repositories: repositories.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn a_release_is_for_its_own_systems_and_no_others() {
        let alma = target("almalinux", "8.8", "", &[]);
        assert!(alma.is_of("almalinux:8") && alma.is_of("almalinux:8.8") && alma.is_of(""));
        for other in [
            "almalinux:9",
            "almalinux:8.80",
            "almalinux:80",
            "rocky:8",
            "almalinux",
        ] {
            assert!(!alma.is_of(other), "{other}");
        }
        let bookworm = target("debian", "12", "bookworm", &[]);
        assert!(bookworm.is_of("debian:12") && bookworm.is_of("debian:bookworm"));
        assert!(!bookworm.is_of("debian:trixie"));
        assert!(target("alpine", "3.19.4", "", &[]).is_of("alpine:3.19"));
        assert!(target("alpine", "3.21.0_alpha20240807", "", &[]).is_of("alpine:edge"));
        assert!(target("arch", "", "", &[]).is_of("arch:"));
        let jammy = target("ubuntu", "22.04", "jammy", &[]);
        assert!(jammy.is_of("ubuntu:22.04") && !jammy.is_of("ubuntu-pro:22.04"));
        let pro = target(
            "ubuntu",
            "22.04",
            "jammy",
            &["https://esm.ubuntu.com/apps/ubuntu"],
        );
        assert!(pro.is_of("ubuntu-pro:22.04"));
        assert!(target("sles", "15.5", "", &[]).is_of("suse:15.5"));
        assert!(bookworm.is_of("purl/") && bookworm.is_of("purl/debian:12"));
        assert!(!bookworm.is_of("purl/debian:11") && !bookworm.is_of("purl/ubuntu:"));
        assert!(target("rhel", "9.3", "", &[]).is_of("purl/redhat:"));
    }

    #[test]
    fn red_hat_s_products_are_told_by_their_cpe_and_repositories() {
        let plain = target("rhel", "8.6", "", &["rhel-8-for-x86_64-baseos-rpms"]);
        assert!(plain.is_of("cpe:/o:redhat:enterprise_linux:8::baseos"));
        assert!(plain.is_of("cpe:/a:redhat:enterprise_linux:8::appstream"));
        assert!(plain.is_of("cpe:/o:redhat:enterprise_linux:8.6"));
        for other in [
            "cpe:/o:redhat:enterprise_linux:9::baseos",
            "cpe:/a:redhat:rhel_aus:8.6::appstream",
            "cpe:/a:redhat:satellite:6.14::el8",
            "cpe:/o:suse:sles:15:sp5",
        ] {
            assert!(!plain.is_of(other), "{other}");
        }
        let more = target(
            "rhel",
            "8.6",
            "",
            &[
                "rhel-8-for-x86_64-appstream-aus-rpms",
                "satellite-6.14-for-rhel-8-x86_64-rpms",
            ],
        );
        assert!(more.is_of("cpe:/a:redhat:rhel_aus:8.6::appstream"));
        assert!(!more.is_of("cpe:/a:redhat:rhel_aus:8.4::appstream"));
        assert!(more.is_of("cpe:/a:redhat:satellite:6.14::el8"));
        assert!(!more.is_of("cpe:/a:redhat:satellite:6.14::el9"));
        let alma = target("almalinux", "8.6", "", &[]);
        assert!(
            !alma.is_of("cpe:/o:redhat:enterprise_linux:8::baseos"),
            "its packages are its own"
        );
        let suse = target("sles", "15.5", "", &[]);
        assert!(suse.is_of("cpe:/o:suse:sles:15:sp5"));
        assert!(suse.is_of("cpe:/o:suse:sle-module-basesystem:15:sp5"));
        assert!(!suse.is_of("cpe:/o:suse:sles:15:sp6") && !suse.is_of("cpe:/o:opensuse:leap:15.5"));
    }

    #[test]
    fn vendors_names_of_releases_are_read() {
        for (name, release) in [
            ("Oracle Linux 8", "ol:8"),
            ("\n Debian GNU/Linux 12", "debian:12"),
            ("Ubuntu 22.04 LTS", "ubuntu:22.04"),
            ("SUSE Linux Enterprise Server 15 SP5-LTSS", "sles:15.5"),
            (
                "SUSE Linux Enterprise Module for Basesystem 15 SP5",
                "suse:15.5",
            ),
            ("SUSE Updates SLE-Product-SLES 15-SP5 x86_64", "suse:15.5"),
            ("openSUSE Leap 15.5", "opensuse-leap:15.5"),
            ("openSUSE Tumbleweed", "opensuse-tumbleweed:"),
            ("Amazon Linux 2", "amzn:2"),
            ("amazon-linux-2---core", "amzn:2"),
            ("Fedora 40", "fedora:40"),
            ("Fedora Core 5", "fedora:5"),
            ("Rocky Linux 9", "rocky:9"),
            ("Azure Linux 3.0", "azurelinux:3.0"),
            ("VMware Photon OS 4.0", "photon:4.0"),
        ] {
            assert_eq!(release_of(name).as_deref(), Some(release), "{name}");
        }
        for name in ["", "Azure Linux", "Windows 11", "coll_name"] {
            assert_eq!(release_of(name), None, "{name}");
        }
    }
}
