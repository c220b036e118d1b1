//! GRUB's generated menu, as far as it must be read to tell which entry is the default.

/// Entries of one menu, and how deep they lie.
const MAX_ENTRIES: usize = 2000;
const MAX_DEPTH: usize = 16;

/// `saved_entry` of an environment block.
pub(super) fn saved_entry(environment: &str) -> Option<String> {
    let value = environment
        .lines()
        .find_map(|line| line.strip_prefix("saved_entry="))?;
    let value = value.trim_end_matches('#').trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// An entry or a submenu: what it is called, and where it stands.
struct Item {
    title: String,
    id: String,
    /// Its number among its siblings.
    number: usize,
    /// The submenu that it is in.
    parent: Option<usize>,
    image: Option<String>,
}

impl Item {
    fn is(&self, wanted: &str) -> bool {
        self.id == wanted || self.title == wanted || wanted.parse() == Ok(self.number)
    }
}

/// The image of the entry that is started when nobody chooses, and how the menu names that entry.
pub(super) fn default_image(menu: &str, saved: Option<&str>) -> Option<(String, String)> {
    let items = items(menu);
    let set = menu.lines().rev().find_map(|line| {
        let value = line.trim().strip_prefix("set default=")?;
        // `next_entry` is for one start alone.
        (!value.contains("next_entry")).then(|| value.trim_matches(['"', '\'']).to_owned())
    });
    let wanted = match set.as_deref() {
        Some(value) if value.contains("saved_entry") => saved.unwrap_or("0").to_owned(),
        Some(value) => value.to_owned(),
        None => "0".to_owned(),
    };
    let mut parent = None;
    let mut found = None;
    for part in wanted.split('>').take(MAX_DEPTH) {
        let inside = |item: &Item| item.parent == parent && item.is(part);
        found = items.iter().position(inside);
        parent = found;
        if found.is_none() {
            break;
        }
    }
    // GRUB starts the first entry when there is none of that name.
    let found = found.or_else(|| items.iter().position(|item| item.parent.is_none()))?;
    let image = first_image(&items, found)?;
    Some((image, wanted))
}

/// The image of an entry; of a submenu, that of its first entry.
fn first_image(items: &[Item], at: usize) -> Option<String> {
    let mut at = at;
    for _ in 0..MAX_DEPTH {
        if let Some(image) = &items.get(at)?.image {
            return Some(image.clone());
        }
        at = items.iter().position(|item| item.parent == Some(at))?;
    }
    None
}

fn items(menu: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    // Open blocks: those of entries and submenus with their place, others without.
    let mut open: Vec<Option<usize>> = Vec::new();
    for line in menu.lines().map(str::trim) {
        let words = words(line);
        match words.first().map(String::as_str) {
            Some("menuentry" | "submenu") if items.len() < MAX_ENTRIES => {
                let parent = open.iter().rev().find_map(|one| *one);
                let id = words
                    .iter()
                    .position(|word| word == "$menuentry_id_option" || word == "--id")
                    .and_then(|at| words.get(at.saturating_add(1)));
                items.push(Item {
                    title: words.get(1).cloned().unwrap_or_default(),
                    id: id.cloned().unwrap_or_default(),
                    number: items.iter().filter(|item| item.parent == parent).count(),
                    parent,
                    image: None,
                });
                if line.ends_with('{') {
                    open.push(items.len().checked_sub(1));
                }
            }
            Some("linux" | "linux16" | "linuxefi") => {
                let item = open
                    .last()
                    .copied()
                    .flatten()
                    .and_then(|at| items.get_mut(at));
                if let (Some(item), Some(image)) = (item, words.get(1)) {
                    item.image.get_or_insert_with(|| image.clone());
                }
            }
            Some("}") => {
                open.pop();
            }
            _ if line.ends_with('{') => open.push(None),
            _ => {}
        }
    }
    items
}

/// Words as the shell splits them, quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut begun = false;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                begun = true;
            }
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            (_, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}
