//! A catch-up as an Ansible playbook.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Digest, Result};

use super::CatchUp;
use super::script::check_word;

impl CatchUp {
    /// A playbook that copies the bundle it stands in to the machine, carries out the plan called `name`, starts the
    /// machine anew where the plan says so, and fails unless all came to its end. The machines are the inventory's group
    /// `catch_up` unless `dormouse_hosts` says otherwise.
    ///
    /// # Errors
    /// `Corrupt` for a name that a script could not carry.
    pub fn ansible(&self, name: &str) -> Result<String> {
        self.ansible_in(name, &BTreeMap::new())
    }

    /// As [`CatchUp::ansible`], for a bundle in which some package files stand elsewhere than under their own names.
    pub(super) fn ansible_in(
        &self,
        name: &str,
        places: &BTreeMap<Digest, String>,
    ) -> Result<String> {
        for part in name.split('/') {
            check_word(part)?;
        }
        let up = "/..".repeat(name.split('/').count());
        let head = format!(
            "# {name} as of {}: {} packages\n",
            self.as_of,
            self.bundle().len()
        );
        let mut out = head;
        out.push_str(
            r#"- name: Catch up from a bundle
  hosts: "{{ dormouse_hosts | default('catch_up') }}"
  become: true
  gather_facts: false
  vars:
"#,
        );
        out.push_str(&format!(
            "    bundle: \"{{{{ playbook_dir }}}}{up}\"\n    plan: \"{name}\"\n    plan_digest: \"{}\"\n",
            self.digest()?
        ));
        out.push_str(
            r#"    there: /var/lib/dormouse/bundle
  tasks:
    - name: Make the bundle's folders
      ansible.builtin.file:
        path: "{{ there }}/{{ item }}"
        state: directory
        mode: "0700"
      loop:
        - packages
        - "plans/{{ plan | dirname }}"
"#,
        );
        for folder in places.values().filter_map(|place| place.split_once('/')) {
            out.push_str(&format!("        - \"packages/{}\"\n", folder.0));
        }
        out.push_str(
            r#"    - name: Copy the plan and the script that finds it
      ansible.builtin.copy:
        src: "{{ bundle }}/{{ item }}"
        dest: "{{ there }}/{{ item }}"
        mode: "0600"
      loop:
        - catch-up.sh
        - "plans/{{ plan }}.sh"
    - name: Copy the package files
      ansible.builtin.copy:
        src: "{{ bundle }}/{{ item }}"
        dest: "{{ there }}/{{ item }}"
        mode: "0600"
"#,
        );
        let files: BTreeSet<String> = self
            .bundle()
            .into_iter()
            .map(|(file, digest)| {
                let place = places.get(&digest).map_or(file, String::as_str);
                format!("packages/{place}")
            })
            .collect();
        if files.is_empty() {
            out.push_str("      loop: []\n");
        } else {
            out.push_str("      loop:\n");
            for file in files {
                out.push_str(&format!("        - \"{file}\"\n"));
            }
        }
        out.push_str(
            r#"    - name: Carry out the plan
      ansible.builtin.command:
        argv:
          - sh
          - "{{ there }}/catch-up.sh"
          - "{{ plan }}"
      register: caught_up
      changed_when: "'installing' in caught_up.stderr"
"#,
        );
        if !self.reboot().is_empty() {
            out.push_str(
                r#"    - name: Start it anew
      ansible.builtin.reboot:
        msg: started anew after its catch-up
"#,
            );
        }
        out.push_str(
            r#"    - name: Read what came of it
      ansible.builtin.slurp:
        src: /var/lib/dormouse/catch-up/result.json
      register: result
    - name: Hold it against the plan
      ansible.builtin.assert:
        that:
          - (result.content | b64decode | from_json).outcome == 'done'
          - (result.content | b64decode | from_json).plan == plan_digest
        fail_msg: the catch-up did not come to its end
    - name: Remove the bundle
      ansible.builtin.file:
        path: "{{ there }}"
        state: absent
"#,
        );
        Ok(out)
    }
}
