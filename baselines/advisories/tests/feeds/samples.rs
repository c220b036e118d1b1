//! Every sample, held against what Python's own readers find in it.

use dormouse_advisories::{Advisories, FeedKind, Status};

use crate::{fixture, python, read, sorted};

/// `advisory name release fixed` of every statement that something is mended.
fn mended(advisories: &Advisories) -> Vec<String> {
    let statements = advisories
        .statements()
        .filter(|(one, _)| one.fixed.is_some());
    sorted(statements.flat_map(|(one, by)| {
        by.into_iter().map(move |advisory| {
            let fixed = one.fixed.unwrap_or_default();
            let fixed = fixed.strip_prefix("0:").unwrap_or(fixed);
            format!("{} {} {} {fixed}", advisory.id, one.package, one.release)
        })
    }))
}

#[test]
fn almalinux_s_archive_says_what_python_reads_in_it() {
    let path = fixture("osv-almalinux/alsa-8-9-to-2023.tar.zst");
    let advisories = read(&path);
    let feed = &advisories.feeds()[0];
    assert_eq!(
        (feed.kind, feed.documents, feed.advisories),
        (FeedKind::Osv, 1339, 1339)
    );
    assert_eq!(feed.date.unwrap().to_string()[..4], *"2023");
    let script = "
import json, subprocess, sys, tarfile, io
plain = subprocess.run(['zstd', '-dqc', sys.argv[1]], capture_output=True, check=True).stdout
for member in (archive := tarfile.open(fileobj=io.BytesIO(plain))):
    if not member.isfile(): continue
    one = json.load(archive.extractfile(member))
    for affected in one['affected']:
        system, version = affected['package']['ecosystem'].split(':')
        fixed = affected['ranges'][0]['events'][1]['fixed'].removeprefix('0:')
        print(one['id'], affected['package']['name'], system.lower() + ':' + version, fixed)
";
    assert_eq!(mended(&advisories), python(script, &path));
    // The CVEs stand among what is related, and the vendor's word in the summary.
    let script = "
import json, subprocess, sys, tarfile, io
plain = subprocess.run(['zstd', '-dqc', sys.argv[1]], capture_output=True, check=True).stdout
for member in (archive := tarfile.open(fileobj=io.BytesIO(plain))):
    if not member.isfile(): continue
    one = json.load(archive.extractfile(member))
    cves = sorted({name for name in one['related'] if name.startswith('CVE-')})
    word = one['summary'].split(':')[0]
    print(one['id'], ' '.join(cves), {'Critical': 'critical', 'Important': 'high', 'Moderate': 'medium', 'Low': 'low'}.get(word, '-'))
";
    let ours = sorted(
        advisories
            .statements()
            .flat_map(|(_, by)| by)
            .map(|advisory| {
                let mut cves = advisory.cves.clone();
                cves.sort_unstable();
                let severity = advisory
                    .severity
                    .map(|one| serde_json::to_value(one).unwrap());
                let severity = severity
                    .as_ref()
                    .and_then(|one| one.as_str())
                    .unwrap_or("-");
                format!("{} {} {severity}", advisory.id, cves.join(" "))
            }),
    );
    assert_eq!(ours, python(script, &path));
}

#[test]
fn alpine_s_databases_say_what_python_reads_in_them() {
    for path in [
        "alpine-secdb/v3.8/main.yaml",
        "alpine-secdb/v3.8/community.yaml",
        "alpine-secdb/v3.10/main.yaml",
        "alpine-secdb/v3.10/community.yaml",
        "alpine-vunnel/secdb/v3.15/main.yaml",
        "alpine-vunnel/secdb/v3.15/community.yaml",
    ] {
        let path = fixture(path);
        let advisories = read(&path);
        assert_eq!(advisories.feeds()[0].kind, FeedKind::AlpineSecdb);
        let yaml = "
import sys, yaml
base = yaml.load(open(sys.argv[1]), Loader=yaml.BaseLoader)
for entry in base['packages'] or []:
    for version, names in entry['pkg'].get('secfixes', {}).items():
        for name in names or []:
            print(name.split()[0], entry['pkg']['name'], 'alpine:' + base['distroversion'].removeprefix('v'), version)
";
        let theirs = python(yaml, &path);
        let zero = |line: &String| line.ends_with(" 0");
        let never = theirs.iter().filter(|line| zero(line)).count();
        let counted: Vec<_> = theirs.iter().filter(|line| !zero(line)).cloned().collect();
        assert_eq!(mended(&advisories), counted, "{}", path.display());
        let unaffected = advisories
            .statements()
            .filter(|(one, _)| one.status == Status::NotAffected);
        assert_eq!(unaffected.count(), never);
        // The same as JSON, as it is published today.
        let script = "import json, sys, yaml\nprint(json.dumps(yaml.load(open(sys.argv[1]), Loader=yaml.BaseLoader)))";
        let json = python(script, &path).join("");
        let folder = tempfile::tempdir().unwrap();
        let json_path = folder.path().join("main.json");
        std::fs::write(&json_path, json).unwrap();
        assert_eq!(mended(&read(&json_path)), mended(&advisories));
    }
}

#[test]
fn updates_of_rpm_repositories_say_what_python_reads_in_them() {
    let script = "
import gzip, lzma, re, subprocess, sys, xml.etree.ElementTree as tree
data = open(sys.argv[1], 'rb').read()
if sys.argv[1].endswith('.zst'): data = subprocess.run(['zstd', '-dqc', sys.argv[1]], capture_output=True, check=True).stdout
if sys.argv[1].endswith('.gz'): data = gzip.decompress(data)
root = tree.fromstring(re.sub(rb' xmlns=\"[^\"]*\"', b'', data))
for update in root.iter('update'):
    print('U', update.findtext('id'))
    if update.get('type') != 'security': continue
    for collection in update.iter('collection'):
        for package in collection.iter('package'):
            file = package.findtext('filename').split('/')[-1]
            name, version, rest = file.removesuffix('.rpm').rsplit('-', 2)
            release, arch = rest.rsplit('.', 1)
            where = (update.findtext('release') or '') + ' ' + (collection.findtext('name') or '')
            found = re.search(r'(Fedora Core|openSUSE) ([0-9.]+)', where)
            if arch == 'src' or not found: continue
            epoch = package.get('epoch') or '0'
            evr = ('' if epoch == '0' else epoch + ':') + version + '-' + release
            place = {'Fedora Core': 'fedora', 'openSUSE': 'opensuse'}[found[1]] + ':' + found[2]
            print('P', update.findtext('id'), name, place, evr)
";
    for (path, at_least) in [
        ("updateinfo/fedora-core-5-x86_64-updateinfo.xml.zst", 100),
        ("updateinfo/libzypp-Delta/repodata/updateinfo.xml.gz", 1),
        ("updateinfo/createrepo_c/updateinfo_00.xml", 0),
        ("updateinfo/createrepo_c/updateinfo_01.xml", 0),
        ("updateinfo/createrepo_c/updateinfo_03.xml", 0),
    ] {
        let path = fixture(path);
        let advisories = read(&path);
        let feed = &advisories.feeds()[0];
        assert_eq!(feed.kind, FeedKind::UpdateInfo);
        let theirs = python(script, &path);
        let updates = theirs.iter().filter(|line| line.starts_with('U')).count();
        let packages = theirs.iter().filter_map(|line| line.strip_prefix("P "));
        let packages: Vec<_> = packages.map(str::to_owned).collect();
        assert!(packages.len() >= at_least, "{}", packages.len());
        // One advisory may be pushed twice; it is one name then.
        assert!(feed.documents >= updates && (updates > 0) == (feed.documents > 0));
        assert_eq!(mended(&advisories), packages, "{}", path.display());
    }
    // Three security updates whose release nobody could tell, and one whose date is none.
    let advisories = read(&fixture("updateinfo/createrepo_c/updateinfo_03.xml"));
    let feed = &advisories.feeds()[0];
    assert_eq!((feed.documents, feed.elsewhere, feed.unread), (6, 7, 1));
    let empty = fixture("updateinfo/createrepo_c/updateinfo_02.xml.xz");
    let error = Advisories::read(&[empty]).unwrap_err().with_causes();
    assert!(
        error.contains("name") && error.contains("updateinfo_02.xml.xz"),
        "{error}"
    );
}

#[test]
fn oval_definitions_say_what_python_resolves_in_them() {
    let script = "
import bz2, re, subprocess, sys, xml.etree.ElementTree as tree
data = open(sys.argv[1], 'rb').read()
if sys.argv[1].endswith('.zst'): data = subprocess.run(['zstd', '-dqc', sys.argv[1]], capture_output=True, check=True).stdout
if sys.argv[1].endswith('.bz2'): data = bz2.decompress(data)
root = tree.fromstring(data)
plain = lambda one: one.tag.split('}')[1]
tests, objects, states = {}, {}, {}
for one in root.iter():
    kind = plain(one)
    if kind == 'rpminfo_test':
        refs = {plain(inner): list(inner.attrib.values())[0] for inner in one}
        tests[one.get('id')] = (refs['object'], refs['state'])
    elif kind == 'rpminfo_object': objects[one.get('id')] = one[0].text
    elif kind == 'rpminfo_state': states[one.get('id')] = (plain(one[0]), one[0].get('operation'), one[0].text)
for definition in root.iter():
    if plain(definition) != 'definition': continue
    title = next(one.text for one in definition.iter() if plain(one) == 'title').split()[0].rstrip(':')
    platform = next(one.text for one in definition.iter() if plain(one) == 'platform')
    # A system is asked for beside what it holds for, or above it.
    def walk(node, system):
        for inner in node:
            said = re.match('(Oracle Linux [0-9]+) is installed', inner.get('comment', ''))
            if said: system = said[1]
        for inner in node:
            if plain(inner) == 'criterion': yield inner, system
            else: yield from walk(inner, system)
    for criterion, platform in walk(definition, platform):
        comment = criterion.get('comment')
        if criterion.get('test_ref') in tests:
            thing, state = tests[criterion.get('test_ref')]
            kind, operation, version = states[state]
            if kind != 'evr': continue
            name = objects[thing]
        elif ' is earlier than ' in comment: name, version = comment.split(' is earlier than '); operation = 'less than'
        else: continue
        if operation.startswith('less'): print(title, name, platform, operation, version.replace(' ', '').removeprefix('0:'))
";
    for (path, platform, release, at_least) in [
        (
            "oval/azurelinux-3.0-oval.xml.zst",
            "Azure Linux",
            "azurelinux:3.0",
            1000,
        ),
        (
            "oval/mariner/azurelinux-3.0-oval.xml",
            "Azure Linux",
            "azurelinux:3.0",
            1,
        ),
        (
            "oval/mariner/cbl-mariner-1.0-oval.xml",
            "CBL-Mariner",
            "mariner:1.0",
            1,
        ),
        (
            "oval/mariner/cbl-mariner-2.0-preview-oval.xml",
            "CBL-Mariner",
            "mariner:2.0",
            5,
        ),
        ("oval/oracle/ELSA-2007-0057.xml", "Oracle Linux ", "ol:", 8),
        (
            "oval/oracle/elsa-2018-1196-1.xml.bz2",
            "Oracle Linux ",
            "ol:",
            10,
        ),
        (
            "oval/oracle/all-positive-data.xml.bz2",
            "Oracle Linux ",
            "ol:",
            100,
        ),
        (
            "oval/oracle/invalid-title-format.xml.bz2",
            "Oracle Linux ",
            "ol:",
            8,
        ),
    ] {
        let path = fixture(path);
        let advisories = read(&path);
        assert_eq!(advisories.feeds()[0].kind, FeedKind::Oval);
        let ours = sorted(advisories.statements().flat_map(|(one, by)| {
            by.into_iter().map(move |advisory| {
                let (operation, version) = match (one.fixed, one.last_affected) {
                    (Some(fixed), _) => ("less than", fixed),
                    (None, last) => ("less than or equal", last.unwrap_or("-")),
                };
                let version = version.strip_prefix("0:").unwrap_or(version);
                let place = one.release.replace(release, platform);
                format!(
                    "{} {} {place} {operation} {version}",
                    advisory.id, one.package
                )
            })
        }));
        let theirs = python(script, &path);
        assert!(
            theirs.len() >= at_least,
            "{}: {}",
            path.display(),
            theirs.len()
        );
        assert_eq!(ours, theirs, "{}", path.display());
    }
}

#[test]
fn a_range_that_begins_in_one_test_and_ends_in_another_is_one() {
    let advisories = read(&fixture("oval/mariner/azurelinux-3.0-oval.xml"));
    let golang: Vec<_> = advisories
        .statements()
        .filter(|(one, _)| one.package == "golang")
        .map(|(one, _)| (one.introduced, one.fixed))
        .collect();
    assert_eq!(golang, [(Some("0:0.0.0.azl3"), Some("0:1.20.7-1.azl3"))]);
}

/// `cpe name evr` of everything that Red Hat's document mends, by Python.
const RED_HAT: &str = "
import json, subprocess, sys, urllib.parse
data = open(sys.argv[1], 'rb').read()
if sys.argv[1].endswith('.zst'): data = subprocess.run(['zstd', '-dqc', sys.argv[1]], capture_output=True, check=True).stdout
csaf = json.loads(data)
helper, related = {}, {}
def walk(branches):
    for one in branches:
        if 'product' in one: helper[one['product']['product_id']] = one['product'].get('product_identification_helper', {})
        walk(one.get('branches', []))
walk(csaf['product_tree']['branches'])
for one in csaf['product_tree'].get('relationships', []):
    related[one['full_product_name']['product_id']] = (one['product_reference'], one['relates_to_product_reference'])
def find(product, key):
    if helper.get(product, {}).get(key): return helper[product][key]
    if product not in related: return None
    part, whole = related[product]
    return find(part, key) or find(whole, key) if key == 'purl' else find(whole, key)
for vulnerability in csaf.get('vulnerabilities', []):
    for product in vulnerability['product_status'].get('fixed', []):
        purl = find(product, 'purl')
        if not purl or not purl.startswith('pkg:rpm/') or 'arch=src' in purl: continue
        path, _, query = purl.partition('?')
        name, _, version = path.removeprefix('pkg:rpm/redhat/').partition('@')
        epoch = dict(pair.split('=', 1) for pair in query.split('&')).get('epoch', '0')
        evr = urllib.parse.unquote(version)
        print(find(product, 'cpe'), urllib.parse.unquote(name), ('' if epoch == '0' else epoch + ':') + evr)
";

fn places(advisories: &Advisories) -> Vec<String> {
    sorted(advisories.statements().filter_map(|(one, _)| {
        let fixed = one.fixed?;
        let fixed = fixed.strip_prefix("0:").unwrap_or(fixed);
        Some(format!("{} {} {fixed}", one.release, one.package))
    }))
}

#[test]
fn red_hat_s_documents_say_what_python_resolves_in_them() {
    for (path, at_least) in [
        ("csaf/redhat-vex-cve-2023-38545.json.zst", 50),
        ("osv-schema/redhat/CSAF/rhsa-2003_315.json", 1),
        ("osv-schema/redhat/CSAF/rhsa-2015_0008.json", 10),
        ("osv-schema/redhat/CSAF/rhsa-2024_4420.json", 1),
        ("osv-schema/redhat/CSAF/rhsa-2024_4546.json", 1),
        ("osv-schema/redhat/CSAF/rhsa-2024_6220.json", 10),
    ] {
        let path = fixture(path);
        let advisories = read(&path);
        assert_eq!(advisories.feeds()[0].kind, FeedKind::Csaf);
        let theirs = python(RED_HAT, &path);
        assert!(
            theirs.len() >= at_least,
            "{}: {}",
            path.display(),
            theirs.len()
        );
        assert_eq!(places(&advisories), theirs, "{}", path.display());
    }
}

#[test]
fn one_advisory_says_the_same_in_csaf_and_osv() {
    for (csaf, osv) in [
        ("rhsa-2024_4546", "RHSA-2024_4546"),
        ("rhsa-2024_6220", "RHSA-2024_6220"),
    ] {
        let path = fixture(&format!("osv-schema/redhat/CSAF/{csaf}.json"));
        let csaf = read(&path);
        let osv = read(&fixture(&format!("osv-schema/redhat/OSV/{osv}.json")));
        // OSV names the sources too, among the packages.
        let with_sources = python(&RED_HAT.replace(" or 'arch=src' in purl", ""), &path);
        assert_eq!(places(&osv), with_sources);
        assert!(places(&csaf).iter().all(|one| with_sources.contains(one)));
        let cves = |advisories: &Advisories| {
            sorted(
                advisories
                    .statements()
                    .flat_map(|(_, by)| by)
                    .flat_map(|one| {
                        let names: Vec<_> = one
                            .cves
                            .iter()
                            .map(|cve| format!("{} {cve}", one.id))
                            .collect();
                        names
                    }),
            )
        };
        assert_eq!(cves(&csaf), cves(&osv));
    }
}

#[test]
fn the_other_samples_are_read_for_what_they_are() {
    for (path, kind, documents, statements) in [
        ("csaf/oasis-2.0/bsi-2022-0001.json", FeedKind::Csaf, 1, 0),
        (
            "csaf/oasis-2.0/cisco-sa-20180328-smi2.json",
            FeedKind::Csaf,
            1,
            0,
        ),
        ("csaf/oasis-2.0/rhsa-2019_1862.json", FeedKind::Csaf, 1, 0),
        ("csaf/oasis-2.0/rhsa-2021_5186.json", FeedKind::Csaf, 1, 0),
        ("csaf/oasis-2.0/rhsa-2021_5217.json", FeedKind::Csaf, 1, 0),
        ("csaf/oasis-2.0/rhsa-2022_0011.json", FeedKind::Csaf, 1, 0),
        ("csaf/oasis-2.0/csaf_vex", FeedKind::Csaf, 13, 0),
        (
            "osv-schema/osv-linter/CVE-2018-5407.json",
            FeedKind::Osv,
            1,
            6,
        ),
        (
            "osv-schema/osv-linter/CVE-2023-41045.json",
            FeedKind::Osv,
            1,
            0,
        ),
        (
            "osv-schema/osv-linter/GHSA-9v2f-6vcg-3hgv.json",
            FeedKind::Osv,
            1,
            2,
        ),
        (
            "osv-schema/osv-linter/GO-2020-0001.json",
            FeedKind::Osv,
            1,
            1,
        ),
        (
            "osv-schema/osv-linter/GO-2024-2963.json",
            FeedKind::Osv,
            1,
            2,
        ),
        (
            "osv-schema/osv-linter/MAL-2024-10238.json",
            FeedKind::Osv,
            1,
            1,
        ),
        (
            "osv-schema/osv-linter/PYSEC-2023-74.json",
            FeedKind::Osv,
            1,
            1,
        ),
        (
            "osv-schema/osv-linter/SUSE-FU-2022_0444-1.json",
            FeedKind::Osv,
            1,
            0,
        ),
        (
            "osv-schema/osv-linter/nopackage-GHSA-9v2f-6vcg-3hgv.json",
            FeedKind::Osv,
            1,
            1,
        ),
    ] {
        let advisories = read(&fixture(path));
        let feed = &advisories.feeds()[0];
        let counts = (feed.kind, feed.documents, advisories.statement_count());
        assert_eq!(counts, (kind, documents, statements), "{path}");
    }
    // What says nothing of a package that could be installed is counted, not forgotten.
    let of = |path: &str| read(&fixture(path)).feeds()[0].elsewhere;
    assert_eq!(of("csaf/oasis-2.0/cisco-sa-20180328-smi2.json"), 259);
    assert_eq!(of("osv-schema/osv-linter/CVE-2023-41045.json"), 1);
}
