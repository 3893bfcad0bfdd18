//! Just enough of Rust's syntax to tell a name in code from the same word in a comment or a string.

/// The source with comments, strings and characters blanked out; line breaks stay, so that lines still count.
pub(crate) fn code(source: &str) -> String {
    let text: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < text.len() {
        let end = match (text[at], text.get(at + 1)) {
            ('/', Some('/')) => line_end(&text, at),
            ('/', Some('*')) => block_end(&text, at),
            ('"', _) => string_end(&text, at),
            ('r', Some('"' | '#')) if !in_word(&text, at) => raw_end(&text, at).unwrap_or(at),
            ('\'', _) => char_end(&text, at),
            _ => at,
        };
        if end > at {
            out.extend(text[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// Whether the character before `at` belongs to the same word: `r"` in `br"` starts a raw string, in `for"` none.
fn in_word(text: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map_or(' ', |i| text[i]);
    let prefix = matches!(before(1), 'b' | 'c') && !is_word(before(2));
    is_word(before(1)) && !prefix
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_end(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|&c| c == '\n').map_or(text.len(), |n| at + n)
}

fn block_end(text: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_usize, at);
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) if depth == 1 => return i + 2,
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    text.len()
}

fn string_end(text: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < text.len() {
        match text[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    text.len()
}

fn raw_end(text: &[char], at: usize) -> Option<usize> {
    let hashes = text[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    if text.get(open) != Some(&'"') {
        return None; // a raw identifier, r#type
    }
    let closes =
        |i: usize| text[i] == '"' && text[i + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    Some((open + 1..text.len()).find(|&i| closes(i)).map_or(text.len(), |i| i + 1 + hashes))
}

/// The end of a character literal; `at` itself for a lifetime.
fn char_end(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => (at + 3..text.len().min(at + 14)).find(|&i| text[i] == '\'').map_or(at, |i| i + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// A path as it stands in code, `use` groups written out: `use a::{b, c::*}` is `a::b` and `a::c::*`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Counted from one.
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// Whether it stands in a `use` declaration.
    pub(crate) import: bool,
}

impl Named {
    /// Whether it begins with these segments.
    pub(crate) fn starts(&self, with: &[&str]) -> bool {
        self.segments.len() >= with.len() && self.segments.iter().zip(with).all(|(a, b)| a == b)
    }

    /// Whether it reaches into, or imports, the crate of this name.
    pub(crate) fn is_of_crate(&self, name: &str) -> bool {
        self.starts(&[name]) && (self.import || self.segments.len() > 1)
    }
}

/// Every path and every single word of the source's code.
pub(crate) fn names(source: &str) -> Vec<Named> {
    let tokens = tokens(&code(source));
    let mut found = Vec::new();
    let mut at = 0;
    let mut import = false;
    while at < tokens.len() {
        match tokens[at].1.as_str() {
            "use" => (import, at) = (true, at + 1),
            ";" => (import, at) = (false, at + 1),
            text if text == "::" || text == "{" && import || starts_word(text) => {
                at = path(&tokens, at, &[], import, &mut found);
            }
            _ => at += 1,
        }
    }
    found
}

fn starts_word(text: &str) -> bool {
    text.chars().next().is_some_and(is_word)
}

/// Reads one path, or one tree of a `use`, from `at`; returns where it ends, always past `at`.
fn path(
    tokens: &[(usize, String)],
    mut at: usize,
    prefix: &[String],
    import: bool,
    found: &mut Vec<Named>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].0;
    let is = |i: usize, text: &str| tokens.get(i).is_some_and(|token| token.1 == text);
    if is(at, "::") {
        at += 1;
    }
    while let Some((_, text)) = tokens.get(at) {
        if text == "{" && (import || !prefix.is_empty()) {
            at += 1;
            while at < tokens.len() && !is(at, "}") {
                at = if is(at, ",") { at + 1 } else { path(tokens, at, &segments, true, found) };
            }
            return at + 1;
        }
        if !(starts_word(text) || text == "*" && import) {
            // `::<T>` or a stray token: the path ends here.
            if segments.len() == prefix.len() {
                return at + 1;
            }
            break;
        }
        if text != "self" || segments.is_empty() {
            segments.push(text.clone());
        }
        at += 1;
        if is(at, "::") {
            at += 1;
        } else {
            break;
        }
    }
    if import && is(at, "as") {
        at += 2;
    }
    found.push(Named { line, segments, import });
    at
}

fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut line = 1;
    let mut open = false; // whether the last token is a word that may go on
    for c in code.chars() {
        if is_word(c) {
            match out.last_mut() {
                Some((_, word)) if open => word.push(c),
                _ => out.push((line, c.to_string())),
            }
            open = true;
            continue;
        }
        match out.last_mut() {
            Some((_, last)) if c == ':' && last == ":" && !open => last.push(':'),
            Some((_, last)) if c == '#' && last == "r" && open => last.clear(), // a raw identifier: its word follows
            _ if c.is_whitespace() => {}
            _ => out.push((line, c.to_string())),
        }
        open = false;
        line += usize::from(c == '\n');
    }
    out.retain(|(_, text)| !text.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(source: &str) -> Vec<String> {
        names(source).iter().map(|name| name.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let source = "a // b\n/* c /* d */ e */ f \"g \\\" h\" r#\"i \" j\"# b\"k\" 'l' '\\'' '\\u{1F600}' &'m n br\"o\" p";
        assert_eq!(written(source), ["a", "f", "b", "m", "n", "b", "p"]);
        assert_eq!(code("x /* 1\n2 */ y\n\"3\n4\" z").matches('\n').count(), 3);
    }

    #[test]
    fn groups_are_written_out() {
        let source = "pub use a::{self, b, c::{d, e::*}, f as g};\nfn x() { h::<u8>(i::j::<k>()) }";
        assert_eq!(
            written(source),
            ["pub", "a", "a::b", "a::c::d", "a::c::e::*", "a::f", "fn", "x", "h", "u8", "i::j", "k"]
        );
        assert_eq!(written("use {a::b, ::c};"), ["a::b", "c"]);
    }

    #[test]
    fn lines_imports_and_raw_identifiers_are_kept_apart() {
        let found = names("use a;\nlet r#b = 1;\n::c::d\n");
        let word = |line, text: &str, import| Named { line, segments: vec![text.into()], import };
        assert_eq!(found[0], word(1, "a", true));
        assert_eq!(found[2], word(2, "b", false));
        assert_eq!((found[4].line, found[4].segments.join("::")), (3, "c::d".into()));
    }

    #[test]
    fn broken_source_ends() {
        for source in [
            "use a::{",
            "use {{{",
            "::",
            "a::",
            "'",
            "\"",
            "r#\"",
            "/*",
            "use a::{b",
            "}}}",
            "use *",
            "a::::b",
        ] {
            names(source);
        }
    }
}
