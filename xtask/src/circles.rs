//! No two files of a crate import each other, directly or through others.
//!
//! The check reads `use` declarations. An import through a re-export counts for the file that defines the item, and a
//! re-export itself (`pub use`) counts for nothing: it gives a name, it needs nothing. A module may import from those that
//! it is a part of (`use super::Error`), as it is nothing without them. Tests do not count.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, ItemMod, UseTree, Visibility, visit::Visit};

use crate::{error::Error, shell::root, source};

/// The path of a module, from the root of its crate.
type ModulePath = Vec<String>;

/// Which file imports from which.
type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

#[derive(Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// Each name that a `use` brings in, with the path it stands for.
    names: HashMap<String, Vec<String>>,
    /// The paths of the imports that count.
    imports: Vec<Vec<String>>,
}

/// The modules of a crate.
#[derive(Default)]
struct Modules(BTreeMap<ModulePath, Module>);

impl Modules {
    /// Reads a module's file and those of its children. `read` gives the text of a file, if there is one.
    fn read(
        &mut self,
        path: ModulePath,
        file: PathBuf,
        read: &impl Fn(&Path) -> Option<String>,
    ) -> Result<(), String> {
        let text = read(&file).ok_or_else(|| format!("{} is declared and missing", file.display()))?;
        let parsed = syn::parse_file(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        self.add(path, file, &parsed.items, read)
    }

    fn add(
        &mut self,
        path: ModulePath,
        file: PathBuf,
        items: &[Item],
        read: &impl Fn(&Path) -> Option<String>,
    ) -> Result<(), String> {
        let mut module = Module { file: file.clone(), ..Module::default() };
        let mut uses = Uses(&mut module);
        for item in items {
            uses.visit_item(item);
        }
        let children: Vec<&ItemMod> = items
            .iter()
            .filter_map(|item| match item {
                Item::Mod(child) if !is_test(&child.attrs) => Some(child),
                _ => None,
            })
            .collect();
        module.children = children.iter().map(|child| child.ident.to_string()).collect();
        self.0.insert(path.clone(), module);
        for child in children {
            let name = child.ident.to_string();
            let below = [path.as_slice(), std::slice::from_ref(&name)].concat();
            match &child.content {
                Some((_, items)) => self.add(below, file.clone(), items, read)?,
                None => {
                    let folder = folder(&path, &file);
                    let flat = folder.join(format!("{name}.rs"));
                    let nested = folder.join(&name).join("mod.rs");
                    let file = if read(&flat).is_some() { flat } else { nested };
                    self.read(below, file, read)?;
                }
            }
        }
        Ok(())
    }

    /// The file that defines what a path in a module stands for; none for another crate's.
    fn resolve(&self, module: &ModulePath, path: &[String], depth: usize) -> Option<&Path> {
        // Two re-exports that name each other do not compile; the bound keeps the check from believing so.
        let depth = depth.checked_sub(1)?;
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => parent(module)?,
            _ if self.0.get(module)?.children.contains(first) => {
                rest = path;
                module.clone()
            }
            _ => return None,
        };
        while let Some((segment, behind)) = rest.split_first() {
            let here = self.0.get(&at)?;
            if segment == "super" {
                at = parent(&at)?;
            } else if here.children.contains(segment) {
                at.push(segment.clone());
            } else if let Some(meant) = here.names.get(segment) {
                return self.resolve(&at, meant, depth).or(Some(here.file.as_path()));
            } else {
                break;
            }
            rest = behind;
        }
        Some(self.0.get(&at)?.file.as_path())
    }

    /// Whether a module is in a file.
    fn is_in(&self, module: &[String], file: &Path) -> bool {
        self.0.get(module).is_some_and(|module| module.file == file)
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (path, module) in &self.0 {
            let targets = imports.entry(module.file.clone()).or_default();
            let meant = module.imports.iter().filter_map(|import| self.resolve(path, import, 32));
            let own = |file: &Path| {
                (0..=path.len()).filter_map(|depth| path.get(..depth)).any(|outer| self.is_in(outer, file))
            };
            targets.extend(meant.filter(|target| !own(target)).map(Path::to_owned));
        }
        imports
    }
}

/// Collects the `use` declarations of a module, those in its functions too, but not those of modules in it.
struct Uses<'a>(&'a mut Module);

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let counts = matches!(item.vis, Visibility::Inherited);
        flatten(&item.tree, &mut Vec::new(), &mut |path, name| {
            if counts {
                self.0.imports.push(path.clone());
            }
            self.0.names.insert(name, path);
        });
    }
}

/// Every path that a `use` tree names, with the name that it is given.
fn flatten(tree: &UseTree, before: &mut Vec<String>, each: &mut impl FnMut(Vec<String>, String)) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, each);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, each)),
        UseTree::Name(name) if name.ident == "self" => {
            each(before.clone(), before.last().cloned().unwrap_or_default());
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            each([before.as_slice(), std::slice::from_ref(&name)].concat(), name);
        }
        UseTree::Rename(rename) => {
            let path = [before.as_slice(), &[rename.ident.to_string()]].concat();
            each(path, rename.rename.to_string());
        }
        UseTree::Glob(_) => each(before.clone(), String::new()),
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn parent(module: &ModulePath) -> Option<ModulePath> {
    let (_, parent) = module.split_last()?;
    Some(parent.to_vec())
}

/// Where the files of a module's children are.
fn folder(module: &ModulePath, file: &Path) -> PathBuf {
    let here = file.parent().unwrap_or(Path::new(""));
    let owns_its_folder =
        module.is_empty() || file.file_name().is_some_and(|name| name == "mod.rs" || name == "main.rs");
    match file.file_stem() {
        Some(stem) if !owns_its_folder => here.join(stem),
        _ => here.to_owned(),
    }
}

/// The sets of files that reach each other.
fn circles(imports: &Imports) -> Vec<BTreeSet<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reach(imports, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, targets) in &reached {
        let circle: BTreeSet<PathBuf> = targets
            .iter()
            .filter(|target| reached.get(**target).is_some_and(|back| back.contains(file)))
            .map(|target| (*target).clone())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reach<'a>(imports: &'a Imports, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = imports.get(from).into_iter().flatten().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(imports.get(file).into_iter().flatten());
        }
    }
    reached
}

/// What is wrong with a crate that has this circle.
fn problem(name: &str, circle: &BTreeSet<PathBuf>) -> String {
    let files: Vec<_> = circle.iter().map(|file| file.display().to_string()).collect();
    format!("{name}: these files import each other in a circle: {}", files.join(", "))
}

/// Checks every crate.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let mut found = Vec::new();
    for (name, folder) in source::crates()? {
        for entry in ["src/lib.rs", "src/main.rs"] {
            let entry = folder.join(entry);
            let read = |path: &Path| std::fs::read_to_string(root().join(path)).ok();
            if read(&entry).is_some() {
                let mut modules = Modules::default();
                match modules.read(ModulePath::new(), entry, &read) {
                    Ok(()) => {
                        found.extend(circles(&modules.imports()).iter().map(|circle| problem(&name, circle)));
                    }
                    Err(problem) => found.push(problem),
                }
            }
        }
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate with these files.
    fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let read = |path: &Path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        let mut modules = Modules::default();
        modules.read(ModulePath::new(), "lib.rs".into(), &read).unwrap();
        let found = circles(&modules.imports());
        found.iter().map(|circle| circle.iter().map(|file| file.display().to_string()).collect()).collect()
    }

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::{self, B}; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "fn f() { use super::a::A; } pub struct C;"),
        ]);
        assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn a_chain_of_imports_is_no_circle() {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b; mod c; use c::C;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use std::sync::Arc; pub struct C;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn an_import_through_a_re_export_counts_for_the_file_that_defines_it() {
        let files = |last| {
            [
                ("lib.rs", "mod a; mod b; pub use a::A;"),
                ("a/mod.rs", "mod deep; pub(crate) use deep::A; use crate::b::B;"),
                ("a/deep.rs", "pub struct A;"),
                ("b.rs", last),
            ]
        };
        assert!(circles_of(&files("use crate::A; pub struct B;")).is_empty());
        let found = circles_of(&files("use crate::a::Other; pub struct B;"));
        assert_eq!(found, [["a/mod.rs", "b.rs"]]);
    }

    #[test]
    fn a_module_may_import_from_those_that_it_is_a_part_of() {
        let found = circles_of(&[
            ("lib.rs", "mod a; use a::deep::D; pub struct Shared;"),
            ("a/mod.rs", "mod deep; use deep::D; pub struct A;"),
            ("a/deep.rs", "use crate::Shared; use super::A; pub struct D;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_module_and_a_part_of_another_can_be_a_circle() {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod deep; use deep::D; pub struct A;"),
            ("a/deep.rs", "use crate::b::B; pub struct D;"),
            ("b.rs", "use crate::a::A; pub struct B;"),
        ]);
        assert_eq!(found, [["a/deep.rs", "a/mod.rs", "b.rs"]]);
    }

    #[test]
    fn imports_of_tests_do_not_count() {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            (
                "b.rs",
                "pub struct B; #[cfg(test)] use crate::a::A; #[cfg(test)] mod tests { use crate::a::A; }",
            ),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_file_that_is_missing_or_no_rust_is_named() {
        let none = |_: &Path| None;
        assert!(Modules::default().read(Vec::new(), "lib.rs".into(), &none).is_err());
        let broken = |_: &Path| Some("struct".to_owned());
        let error = Modules::default().read(Vec::new(), "lib.rs".into(), &broken).unwrap_err();
        assert!(error.starts_with("lib.rs"), "{error}");
    }
}
