//! A source file as words without comments and literals: enough to see paths, too little to be fooled by text.

use std::path::Path;

/// A file.
pub(crate) struct Source {
    /// From the root of the package, such as `src/model/ids.rs`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    words: Vec<(usize, String)>,
}

/// All `.rs` files below a directory, in order.
pub(crate) fn below(root: &Path, dir: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else {
        return found;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(below(root, &path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy();
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(Source::new(&name, &text));
        }
    }
    found
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            words: lex(text),
        }
    }

    /// Lines where these words follow each other.
    pub(crate) fn lines_of(&self, words: &[&str]) -> Vec<usize> {
        let fits = |window: &&[(usize, String)]| {
            window
                .iter()
                .zip(words)
                .all(|((_, found), word)| found == word)
        };
        self.words
            .windows(words.len())
            .filter(fits)
            .map(|window| window[0].0)
            .collect()
    }

    /// Every path that begins with `crate::`, without that, with groups taken apart; `self` names the group itself.
    pub(crate) fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (index, (line, word)) in self.words.iter().enumerate() {
            if word == "crate" && self.word(index + 1) == "::" {
                let mut paths = Vec::new();
                self.tree(index + 2, "", &mut paths);
                found.extend(paths.into_iter().map(|path| (*line, path)));
            }
        }
        found
    }

    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |(_, word)| word)
    }

    /// Reads one path or group; gives the index behind it.
    fn tree(&self, mut index: usize, prefix: &str, paths: &mut Vec<String>) -> usize {
        let mut path = prefix.to_owned();
        loop {
            match self.word(index) {
                "{" => {
                    index += 1;
                    while !matches!(self.word(index), "}" | "") {
                        index = self.tree(index, &path, paths);
                        if self.word(index) == "as" {
                            index += 2;
                        }
                        if self.word(index) == "," {
                            index += 1;
                        }
                    }
                    return index + 1;
                }
                "self" => {
                    paths.push(path);
                    return index + 1;
                }
                word => {
                    if !path.is_empty() {
                        path.push_str("::");
                    }
                    path.push_str(word);
                    index += 1;
                }
            }
            if self.word(index) != "::" {
                paths.push(path);
                return index;
            }
            index += 1;
        }
    }
}

/// Identifiers, `::` and single characters, each with its line.
fn lex(text: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut words = Vec::new();
    let (mut index, mut line) = (0, 1);
    while index < chars.len() {
        let c = at(index);
        let end = if c == '/' && at(index + 1) == '/' {
            (index..chars.len())
                .find(|&i| at(i) == '\n')
                .unwrap_or(chars.len())
        } else if c == '/' && at(index + 1) == '*' {
            block_comment_end(&chars, index)
        } else if c == '"' {
            string_end(&chars, index)
        } else if c == '\'' {
            quote_end(&chars, index)
        } else if c.is_alphanumeric() || c == '_' {
            let end = (index..chars.len())
                .find(|&i| !at(i).is_alphanumeric() && at(i) != '_')
                .unwrap_or(chars.len());
            let word: String = chars[index..end].iter().collect();
            match raw_string_end(&chars, &word, end) {
                Some(end) => end,
                None => {
                    words.push((line, word));
                    end
                }
            }
        } else if c == ':' && at(index + 1) == ':' {
            words.push((line, "::".to_owned()));
            index + 2
        } else {
            if !c.is_whitespace() {
                words.push((line, c.to_string()));
            }
            index + 1
        };
        line += chars[index..end].iter().filter(|&&c| c == '\n').count();
        index = end;
    }
    words
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0usize;
    let mut index = start;
    while index + 1 < chars.len() {
        match (chars[index], chars[index + 1]) {
            ('/', '*') => (depth, index) = (depth + 1, index + 2),
            ('*', '/') if depth == 1 => return index + 2,
            ('*', '/') => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < chars.len() {
        match chars[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    chars.len()
}

/// Behind a character literal, or behind the quote of a lifetime.
fn quote_end(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => (start + 3..chars.len())
            .find(|&i| chars[i] == '\'')
            .map_or(chars.len(), |i| i + 1),
        (Some(_), Some('\'')) => start + 3,
        _ => start + 1,
    }
}

/// Behind a raw string whose prefix was read as a word.
fn raw_string_end(chars: &[char], prefix: &str, start: usize) -> Option<usize> {
    if !matches!(prefix, "r" | "br" | "cr") {
        return None;
    }
    let hashes = chars[start..].iter().take_while(|&&c| c == '#').count();
    if chars.get(start + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let inside = start + hashes + 1;
    (inside..chars.len())
        .find(|&i| chars[i..].starts_with(&close))
        .map(|i| i + close.len())
}
