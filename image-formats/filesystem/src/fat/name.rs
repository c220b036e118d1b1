//! Names: short ones of 8 and 3 characters in code page 437, long ones in UTF-16.

/// Characters 0x80 to 0xFF of code page 437, which Linux assumes.
const HIGH: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";
/// Longest long name, in units of UTF-16.
pub const MAX_LONG: usize = 255;
/// What may not stand in a long name, beside control characters.
const FORBIDDEN: &[char] = &['"', '*', '/', ':', '<', '>', '?', '\\', '|'];

/// A short name as users see it; `lower` says whether base and extension are shown in lower case.
#[must_use]
pub fn shown(short: &[u8; 11], lower: (bool, bool)) -> String {
    let (base, extension) = short.split_at(8);
    let mut out = part(base, lower.0);
    let extension = part(extension, lower.1);
    if !extension.is_empty() {
        out.push('.');
        out.push_str(&extension);
    }
    out
}

fn part(part: &[u8], lower: bool) -> String {
    let mut out = String::new();
    for (nth, &byte) in part.trim_ascii_end().iter().enumerate() {
        // 0xE5 as the first byte of a name would mean a free entry.
        let byte = if nth == 0 && byte == 5 { 0xE5 } else { byte };
        let character = character(byte);
        if lower {
            out.extend(character.to_lowercase());
        } else {
            out.push(character);
        }
    }
    out
}

fn character(byte: u8) -> char {
    if byte < 0x80 {
        return char::from(byte);
    }
    let nth = usize::from(byte).saturating_sub(0x80);
    HIGH.chars().nth(nth).unwrap_or('_')
}

/// The checksum of a short name that the entries of its long name repeat.
#[must_use]
pub fn checksum(short: &[u8; 11]) -> u8 {
    short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// A name by which names are equal whatever their case.
#[must_use]
pub fn folded(name: &str) -> String {
    // One character for one, as FAT has it.
    name.chars()
        .map(|one| {
            let mut upper = one.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(only), None) => only,
                _ => one,
            }
        })
        .collect()
}

/// Whether `name` can be a long name: what Windows and Linux both accept.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    !name.is_empty()
        && name.encode_utf16().count() <= MAX_LONG
        && !name.ends_with(['.', ' '])
        && !name.starts_with(' ')
        && !name
            .chars()
            .any(|one| one < ' ' || one == '\u{7f}' || FORBIDDEN.contains(&one))
}

/// Whether a character may stand in a short name.
fn is_short(one: char) -> bool {
    one.is_ascii_uppercase() || one.is_ascii_digit() || "!#$%&'()-@^_`{}~".contains(one)
}

/// The short name that is `name` itself, when it is one: upper case, 8 and 3 characters.
#[must_use]
pub fn exact_short(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let fits = |part: &str, most: usize| part.len() <= most && part.chars().all(is_short);
    if base.is_empty() || !fits(base, 8) || !fits(extension, 3) || name.ends_with('.') {
        return None;
    }
    Some(padded(base, extension))
}

fn padded(base: &str, extension: &str) -> [u8; 11] {
    let mut out = [b' '; 11];
    let (to_base, to_extension) = out.split_at_mut(8);
    for (to, from) in to_base.iter_mut().zip(base.bytes()) {
        *to = from;
    }
    for (to, from) in to_extension.iter_mut().zip(extension.bytes()) {
        *to = from;
    }
    out
}

/// A short name for a long one: the `nth` try, 0 being the name in upper case without a number, which is offered only
/// when nothing of the name is lost.
#[must_use]
pub fn alias(long: &str, nth: u32) -> Option<[u8; 11]> {
    let trimmed = long.trim_start_matches(['.', ' ']);
    let (base, extension) = match trimmed.rsplit_once('.') {
        Some((base, extension)) => (base, extension),
        None => (trimmed, ""),
    };
    let mut lost = trimmed.len() != long.len();
    let mut short = |part: &str, most: usize| -> String {
        let mut out = String::new();
        for one in part.chars().filter(|one| !matches!(one, ' ' | '.')) {
            let upper = one.to_ascii_uppercase();
            if out.len() >= most {
                lost = true;
                break;
            }
            if is_short(upper) {
                out.push(upper);
            } else {
                lost = true;
                out.push('_');
            }
        }
        lost |= part.contains([' ', '.']);
        out
    };
    let base = short(base, 8);
    let extension = short(extension, 3);
    if nth == 0 {
        return (!lost && !base.is_empty()).then(|| padded(&base, &extension));
    }
    // A digest of the name keeps thousands of like names apart.
    let stem = if nth < 5 {
        base
    } else {
        let hash = long.encode_utf16().fold(0_u16, |hash, unit| {
            hash.rotate_left(3).wrapping_mul(31).wrapping_add(unit)
        });
        let head: String = base.chars().take(2).collect();
        format!("{head}{hash:04X}")
    };
    let nth = if nth < 5 { nth } else { nth.saturating_sub(4) };
    let tail = format!("~{nth}");
    let room = 8_usize.saturating_sub(tail.len());
    let head: String = stem.chars().take(room).collect();
    Some(padded(&format!("{head}{tail}"), &extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_half_of_the_code_page_is_whole() {
        assert_eq!(HIGH.chars().count(), 128);
        assert_eq!(character(0xE1), 'ß');
        assert_eq!(character(0xFF), '\u{a0}');
    }

    #[test]
    fn short_names_are_shown_and_made() {
        assert_eq!(shown(b"GRUBX64 EFI", (false, false)), "GRUBX64.EFI");
        assert_eq!(shown(b"GRUBX64 EFI", (true, false)), "grubx64.EFI");
        assert_eq!(shown(b"README     ", (false, false)), "README");
        assert_eq!(exact_short("BOOTX64.EFI"), Some(*b"BOOTX64 EFI"));
        assert_eq!(exact_short("bootx64.efi"), None);
        assert_eq!(exact_short(".A"), None);
        assert_eq!(alias("grub.cfg", 0), Some(*b"GRUB    CFG"));
        assert_eq!(alias("a long name.text", 0), None);
        assert_eq!(alias("a long name.text", 1), Some(*b"ALONGN~1TEX"));
        assert_eq!(alias(".hidden", 1), Some(*b"HIDDEN~1   "));
        assert_eq!(folded("Straße"), folded("sTRAßE"));
        assert!(!is_valid("a:b") && !is_valid("end.") && is_valid("ä.b.c"));
    }
}
