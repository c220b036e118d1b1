# Edits of files. Each says how something is to be, so one made twice is made once; links are followed as the machine has them.
# Every path comes after $fix_root, which is empty on the machine itself.
fix_root=${fix_root-}

fix_say() {
  printf '%s\n' "fix: $*" >&2
  return 1
}

# The file that a path leads to; the path itself where nothing is there.
fix_real() {
  if [ -e "$1" ]; then readlink -f -- "$1"; else printf '%s\n' "$1"; fi
}

# Puts the text of $2 in the place of the file $1, which keeps its owner and mode.
fix_put() {
  if [ -f "$1" ]; then
    if cmp -s -- "$1" "$2"; then return 0; fi
    cp -p -- "$1" "$1.fix-new" || return 1
  else
    (umask 022 && : >"$1.fix-new") || return 1
  fi
  cat -- "$2" >"$1.fix-new" && mv -f -- "$1.fix-new" "$1" || return 1
  if command -v restorecon >/dev/null 2>&1; then restorecon -- "$1"; fi
  return 0
}

# Edits the text of the file $1 by the awk program $3 with the variables that the caller has set; makes it where $2 is yes.
fix_text() {
  fix_file=$fix_root$1
  if [ -L "$fix_file" ] && ! readlink -f -- "$fix_file" >/dev/null; then
    fix_say "$1: a loop of links" || return 1
  fi
  if [ ! -e "$fix_file" ]; then
    if [ "$2" = right ]; then return 0; fi
    if [ -L "$fix_file" ]; then fix_say "$1: a link that leads nowhere" || return 1; fi
    if [ "$2" = no ]; then fix_say "$1: there is no such file" || return 1; fi
    if [ ! -d "$(dirname -- "$fix_file")" ]; then fix_say "$1: there is no such directory" || return 1; fi
  elif [ ! -f "$fix_file" ]; then
    fix_say "$1: no regular file" || return 1
  fi
  fix_file=$(fix_real "$fix_file") || return 1
  fix_folder=$(mktemp -d) || return 1
  if [ -e "$fix_file" ]; then cat -- "$fix_file" >"$fix_folder/old"; else : >"$fix_folder/old"; fi
  fix_done=0
  # shellcheck disable=SC2094 # both only read
  if ! LC_ALL=C tr -d '\000' <"$fix_folder/old" | cmp -s - "$fix_folder/old"; then
    fix_say "$1: a binary file is not edited by lines"
    fix_done=1
  else
    fix_ended=yes
    if [ -s "$fix_folder/old" ] && [ -n "$(tail -c 1 "$fix_folder/old")" ]; then fix_ended=no; fi
    if LC_ALL=C fix_ended=$fix_ended awk "$fix_lines$3" "$fix_folder/old" >"$fix_folder/new"; then
      fix_put "$fix_file" "$fix_folder/new" || fix_done=1
    else
      fix_say "$1: cannot be edited safely"
      fix_done=1
    fi
  fi
  rm -rf -- "$fix_folder"
  return "$fix_done"
}

# Lines and how they end, as both programs need them.
# shellcheck disable=SC2016 # awk's own variables
fix_lines='
function ltrim(s) { sub(/^[ \t\r\013\014]+/, "", s); return s }
function rtrim(s) { sub(/[ \t\r\013\014]+$/, "", s); return s }
function trim(s) { return ltrim(rtrim(s)) }
function plain_line(s) { if (dos) sub(/\r$/, "", s); return s }
function spelt_line(s) { return dos ? s "\r" : s }
function replace(at, s) { line[at] = (plain_line(line[at]) == line[at]) ? s : spelt_line(s) }
function insert(at, s, i) {
  if (at > n && !ended) { if (n) line[n] = spelt_line(line[n]); ended = 1 }
  for (i = n; i >= at; i--) line[i + 1] = line[i]
  line[at] = spelt_line(s); n++
}
function write_all(i) {
  for (i = 1; i < n; i++) printf "%s\n", line[i]
  if (n) printf "%s%s", line[n], ended ? "\n" : ""
}
# Whether a pattern of stars and question marks is the whole of a text; a question mark is one character of UTF-8.
function glob(p, s, i, j, star, had, c) {
  i = 1; j = 1; star = 0
  while (1) {
    c = substr(p, i, 1)
    if (c == "*") { star = ++i; had = j; continue }
    if (i > length(p) && j > length(s)) return 1
    if (i <= length(p) && j <= length(s) && (c == "?" || c == substr(s, j, 1))) {
      i++; j++
      if (c == "?") while (substr(s, j, 1) ~ /[\200-\277]/) j++
      continue
    }
    if (!star || had > length(s)) return 0
    do had++; while (substr(s, had, 1) ~ /[\200-\277]/)
    i = star; j = had
  }
}
{ line[++n] = $0 }
function begin() {
  ended = ENVIRON["fix_ended"] == "yes" || !n
  dos = (n > 1 || ended) && n && line[1] ~ /\r$/
}
'

fix_line_program='
END {
  begin()
  has_line = ENVIRON["has_line"] == "yes"; wanted = ENVIRON["line"]
  has_match = ENVIRON["has_match"] == "yes"; matching = ENVIRON["matching"]
  has_after = ENVIRON["has_after"] == "yes"; after = ENVIRON["after"]
  absent = ENVIRON["state"] == "absent"
  there = 0; first = 0
  for (i = 1; i <= n; i++) {
    is[i] = has_line && plain_line(line[i]) == wanted
    other[i] = !is[i] && has_match && glob(matching, plain_line(line[i]))
    if (is[i]) there = 1
    if (other[i] && !first) first = i
  }
  if (there || absent) first = 0
  if (first) replace(first, wanted)
  kept = 0
  for (i = 1; i <= n; i++) {
    gone = other[i] && i != first || absent && is[i]
    if (gone) { if (i == n) ended = 1 } else line[++kept] = line[i]
  }
  n = kept
  if (!absent && !there && !first) {
    at = n + 1
    if (has_after) for (i = 1; i <= n; i++) if (glob(after, plain_line(line[i]))) at = i + 1
    insert(at, wanted)
  }
  write_all()
}
'

fix_set_program='
function same(a, b) { return ignore ? tolower(a) == tolower(b) : a == b }
function is_mark(c) { return c != "" && index(comments, c) > 0 }
# Sets val and says whether a line, without blanks around it, sets the key.
function value_in(s, at, k) {
  if (sep == "") {
    at = match(s, /[ \t\r\013\014]/)
    if (at) { k = substr(s, 1, at - 1); val = substr(s, at + 1) } else { k = s; val = "" }
  } else {
    at = index(s, sep)
    if (!at) return 0
    k = substr(s, 1, at - 1); val = substr(s, at + length(sep))
  }
  val = trim(val)
  return same(trim(k), key)
}
# The quote of a value that begins and ends with one; sets inner.
function quoted(v, q, at) {
  q = substr(v, 1, 1)
  if (q != "\"" && q != "\047") return ""
  at = index(substr(v, 2), q)
  if (!at) return ""
  inner = substr(v, 2, at - 1)
  return q
}
function before_comment(v, i, blank, c) {
  blank = 0
  for (i = 1; i <= length(v); i++) {
    c = substr(v, i, 1)
    if (blank && is_mark(c)) return rtrim(substr(v, 1, i - 1))
    blank = c ~ /[ \t\r\013\014]/
  }
  return v
}
function plain(v) { return quoted(v) != "" ? inner : before_comment(v) }
# Sets where key and value are in a line that has a separator: key_end, value_start, value_end, each before that character.
function parts(s, start, stop, body, at, rest) {
  start = length(s) - length(ltrim(s)); stop = length(rtrim(s))
  body = substr(s, start + 1, stop - start)
  if (sep == "") {
    at = match(body, /[ \t\r\013\014]/)
    if (!at) at = length(body) + 1
    key_end = start + at; rest = substr(body, at)
  } else {
    at = index(body, sep)
    if (!at) return 0
    key_end = start + length(rtrim(substr(body, 1, at - 1))) + 1; rest = substr(body, at + length(sep))
  }
  indent = substr(s, 1, start)
  if (trim(rest) == "") { value_start = length(s) + 1; value_end = length(s) + 1 }
  else { value_start = stop - length(ltrim(rest)) + 1; value_end = stop + 1 }
  return 1
}
function survey(i, t, c, here, in_section, section_now, word) {
  places = 0; shown = 0; last = 0; style = 0; border = 0; stop_at = 0; in_section = 0
  for (i = 1; i <= n; i++) {
    t = trim(plain_line(line[i]))
    here = has_section ? in_section && section_now == section : !in_section
    if (t == "") continue
    if (is_mark(substr(t, 1, 1))) {
      while (is_mark(substr(t, 1, 1))) t = substr(t, 2)
      if (here && value_in(ltrim(t))) shown = i
      continue
    }
    if (substr(t, 1, 1) == "[" && index(t, "]")) {
      if (!border) border = i
      in_section = 1; section_now = trim(substr(t, 2, index(t, "]") - 2))
      if (has_section && section_now == section) last = i
      continue
    }
    word = t; sub(/[ \t\r\013\014].*$/, "", word)
    if (has_end && same(word, ends_at)) { if (!border) border = i; stop_at = i; return }
    if (!here) continue
    last = i
    if (parts(plain_line(line[i]))) style = i
    if (value_in(t)) place[++places] = i
  }
}
function is_indented(s) { return s ~ /^[ \t]/ && trim(s) != "" }
function continued(at, s, next_line) {
  next_line = at < n ? plain_line(line[at + 1]) : ""
  if (s ~ /\\$/) return 1
  return sep != "" && is_indented(next_line) && !is_indented(s) && !index(next_line, sep) && !is_mark(substr(trim(next_line), 1, 1))
}
END {
  begin()
  has_section = ENVIRON["has_section"] == "yes"; section = ENVIRON["section"]
  has_end = ENVIRON["has_end"] == "yes"; ends_at = ENVIRON["ends_at"]
  key = ENVIRON["key"]; value = ENVIRON["value"]; comments = ENVIRON["comments"]
  separator = ENVIRON["separator"]; sep = trim(separator); ignore = ENVIRON["ignore"] == "yes"
  wanted = plain(value)
  survey()
  if (!places) {
    between = ""; new_indent = ""
    if (style) {
      s = plain_line(line[style]); parts(s)
      new_indent = indent; between = substr(s, key_end, value_start - key_end)
    }
    if (between == "") between = separator
    after = shown ? shown : last
    at = after ? after + 1 : (has_section ? (stop_at ? stop_at : n + 1) : (border ? border : n + 1))
    if (!after && has_section) {
      if (at > 1 && trim(line[at - 1]) != "") insert(at++, "")
      insert(at++, "[" section "]")
    }
    insert(at, rtrim(new_indent key between value))
  }
  for (p = 1; p <= places; p++) {
    s = plain_line(line[place[p]])
    if (!parts(s)) continue
    old = substr(s, value_start, value_end - value_start)
    if (plain(old) == wanted) continue
    if (continued(place[p], s)) exit 3
    quote = quoted(old)
    token = quote != "" ? length(inner) + 2 : length(before_comment(old))
    new = wanted == value && quote != "" && !index(value, quote) ? quote value quote : value
    head = substr(s, 1, value_start - 1)
    if (sep == "" && head == rtrim(head)) head = head " "
    replace(place[p], head new substr(old, token + 1) substr(s, value_end))
  }
  survey()
  if (!places) exit 3
  for (p = 1; p <= places; p++) {
    value_in(trim(plain_line(line[place[p]])))
    if (plain(val) != wanted) exit 3
  }
  write_all()
}
'

# fix_set PATH CREATE HAS_SECTION SECTION KEY VALUE SEPARATOR COMMENTS IGNORE HAS_END ENDS_AT
fix_set() {
  (
    fix_path=$1 fix_create=$2
    export has_section="$3" section="$4" key="$5" value="$6" separator="$7" comments="$8" ignore="$9"
    shift 9
    export has_end="$1" ends_at="$2"
    fix_text "$fix_path" "$fix_create" "$fix_set_program"
  )
}

# fix_line PATH CREATE STATE HAS_LINE LINE HAS_MATCH MATCHING HAS_AFTER AFTER
fix_line() {
  (
    export state="$3" has_line="$4" line="$5" has_match="$6" matching="$7" has_after="$8" after="$9"
    fix_text "$1" "$2" "$fix_line_program"
  )
}

# Gives what is at $1 an owner, a group and a mode, those that are not empty.
fix_own() {
  if [ -n "$2" ]; then chown -- "$2" "$1" || return 1; fi
  if [ -n "$3" ]; then chgrp -- "$3" "$1" || return 1; fi
  if [ -n "$4" ]; then chmod -- "$4" "$1" || return 1; fi
}

# fix_write PATH OWNER GROUP MODE CONTENT
fix_write() {
  fix_file=$fix_root$1
  if [ -e "$fix_file" ] && [ ! -f "$fix_file" ] && [ ! -L "$fix_file" ]; then
    fix_say "$1: no regular file" || return 1
  fi
  (umask 022 && mkdir -p -- "$(dirname -- "$fix_file")") || return 1
  if [ -L "$fix_file" ]; then rm -f -- "$fix_file" || return 1; fi
  fix_folder=$(mktemp -d) || return 1
  printf '%s' "$5" >"$fix_folder/new" && fix_put "$fix_file" "$fix_folder/new"
  fix_done=$?
  rm -rf -- "$fix_folder"
  [ "$fix_done" = 0 ] && fix_own "$fix_file" "$2" "$3" "$4"
}

fix_remove() {
  fix_file=$fix_root$1
  if [ -d "$fix_file" ] && [ ! -L "$fix_file" ]; then
    fix_say "$1: a directory is never removed" || return 1
  fi
  rm -f -- "$fix_file"
}

fix_attributes() {
  [ -e "$fix_root$1" ] || fix_say "$1: nothing is there" || return 1
  fix_own "$fix_root$1" "$2" "$3" "$4"
}

fix_symlink() {
  fix_file=$fix_root$1
  if [ -L "$fix_file" ] && [ "$(readlink -- "$fix_file")" = "$2" ]; then return 0; fi
  if [ -e "$fix_file" ] && [ ! -f "$fix_file" ] && [ ! -L "$fix_file" ]; then
    fix_say "$1: neither a file nor a link" || return 1
  fi
  (umask 022 && mkdir -p -- "$(dirname -- "$fix_file")") || return 1
  rm -f -- "$fix_file" && ln -s -- "$2" "$fix_file"
}
