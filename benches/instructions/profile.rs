//! A profile that callgrind has written: functions, their own instructions by source file, and those of their calls.
//!
//! The format is that of the manual of Valgrind, "Callgrind Format Specification": names are numbered at their first use, a
//! line of costs begins with a position, and the line behind `calls=` has the inclusive cost of that call.

use std::collections::{BTreeMap, HashMap};

/// Number of a function in a profile.
pub(crate) type FunctionId = usize;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) functions: Vec<Function>,
    by_name: HashMap<String, FunctionId>,
}

/// One function.
#[derive(Debug, Default)]
pub(crate) struct Function {
    /// Its name, with that of its module.
    pub(crate) name: String,
    /// The source file that it is in.
    pub(crate) file: String,
    /// Its own instructions, by the source file of what was compiled into it.
    pub(crate) own: BTreeMap<String, u64>,
    /// Instructions of the functions that it calls, with all that they call.
    pub(crate) calls: BTreeMap<FunctionId, u64>,
}

impl Function {
    /// Its own instructions.
    pub(crate) fn own_cost(&self) -> u64 {
        self.own.values().sum()
    }

    /// Its instructions with those of all that it calls.
    pub(crate) fn cost(&self) -> u64 {
        self.own_cost() + self.calls.values().sum::<u64>()
    }
}

/// Names by their numbers; a name stands only at its first use.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    /// The name that `(number) name` or `(number)` stands for.
    fn read(&mut self, text: &str) -> String {
        match text.split_once(' ') {
            Some((number, name)) if number.starts_with('(') => {
                self.0.insert(number.to_owned(), name.to_owned());
                name.to_owned()
            }
            _ => self.0.get(text).cloned().unwrap_or_else(|| text.to_owned()),
        }
    }
}

impl Profile {
    /// Reads a profile.
    pub(crate) fn read(text: &str) -> Self {
        let mut profile = Self::default();
        let (mut files, mut functions) = (Names::default(), Names::default());
        let (mut file, mut current) = (String::new(), None);
        let (mut called, mut is_call) = (None, false);
        for line in text.lines() {
            match line.split_once('=') {
                Some(("fl" | "fi" | "fe", name)) => file = files.read(name),
                Some(("cfi" | "cfl", name)) => drop(files.read(name)),
                Some(("fn", name)) => {
                    let id = profile.function(&functions.read(name));
                    profile.functions[id].file.clone_from(&file);
                    current = Some(id);
                }
                Some(("cfn", name)) => called = Some(profile.function(&functions.read(name))),
                Some(("calls", _)) => is_call = true,
                _ => {
                    let (Some(id), Some(cost)) = (current, cost(line)) else { continue };
                    match called.take().filter(|_| std::mem::take(&mut is_call)) {
                        Some(callee) => *profile.functions[id].calls.entry(callee).or_default() += cost,
                        None => *profile.functions[id].own.entry(file.clone()).or_default() += cost,
                    }
                }
            }
        }
        profile
    }

    /// The function whose name begins so and that costs most.
    pub(crate) fn find(&self, name: &str) -> Option<FunctionId> {
        let found = self.functions.iter().enumerate().filter(|(_, function)| function.name.starts_with(name));
        found.max_by_key(|(_, function)| function.cost()).map(|(id, _)| id)
    }

    fn function(&mut self, name: &str) -> FunctionId {
        let functions = &mut self.functions;
        *self.by_name.entry(name.to_owned()).or_insert_with(|| {
            functions.push(Function { name: name.to_owned(), ..Function::default() });
            functions.len() - 1
        })
    }
}

/// The cost of a line `position cost`, where a position is a number, `+` or `-` and a number, or `*`.
fn cost(line: &str) -> Option<u64> {
    let (position, cost) = line.split_once(' ')?;
    let is_position =
        position == "*" || position.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit());
    if is_position { cost.trim().parse().ok() } else { None }
}
