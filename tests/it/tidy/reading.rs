//! Reading: what one parsed source file names, calls, declares and defines, as plain data.
//!
//! `tree` reads every file of the workspace with it, the rules in `tidy.rs` judge. A path is written out from its root: `self` and
//! `super` become the `crate` path they stand for, and a first segment that the file imported becomes what was imported, so that
//! `use super::{db as d}` and then `d::open()` name `crate::db::open`. Tokens that a macro is handed are searched for paths, too;
//! what a macro builds out of single words, or a derive writes, is not seen.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::{
    Attribute, Block, Expr, ImplItem, Item, Signature, Stmt, TraitItem, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A path that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Its segments; the first is `crate` or, if it does not begin in this crate, the word it was written with.
    pub(super) path: Vec<String>,
    /// Line, from 1.
    pub(super) line: usize,
    /// Compiled for tests only.
    pub(super) test: bool,
    /// Named by `use`; a glob ends in `*`.
    pub(super) imported: bool,
}

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// A macro's name without its path, or what was found.
    pub(super) text: String,
    /// Line, from 1.
    pub(super) line: usize,
    /// Compiled for tests only.
    pub(super) test: bool,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name without its path.
    pub(super) name: String,
    /// Line of its signature, from 1.
    pub(super) line: usize,
    /// Lines from its signature to its last brace.
    pub(super) lines: usize,
    /// Nearly all of it is one `match`, which reads as a table.
    pub(super) flat: bool,
    /// Compiled for tests only.
    pub(super) test: bool,
}

/// A module that is declared here and lies in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    /// The modules it lies in inside this file, and its own name.
    pub(super) path: Vec<String>,
    /// The value of its `#[path]`.
    pub(super) file: Option<String>,
    /// Compiled for tests only.
    pub(super) test: bool,
}

/// All that is read of a file.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Paths of two or more segments, and every `use`.
    pub(super) named: Vec<Named>,
    /// Macros that are called.
    pub(super) macros: Vec<Word>,
    /// Blocks, functions, impls, traits and attributes that are unsafe.
    pub(super) unsafes: Vec<Word>,
    /// Tests that are not run.
    pub(super) ignored: Vec<Word>,
    /// Functions with a body.
    pub(super) functions: Vec<Function>,
    /// Modules in files of their own.
    pub(super) modules: Vec<Declared>,
    /// Names that `use` brought into the file, with what they stand for.
    pub(super) aliases: BTreeMap<String, Vec<String>>,
}

/// Reads `text`, the file of `module` (its path below `crate`); `test` if all of it is compiled for tests only.
pub(super) fn read(text: &str, module: &[String], test: bool) -> syn::Result<Reading> {
    let file = syn::parse_file(text)?;
    let mut reader = Reader { module: module.to_vec(), inside: Vec::new(), test, read: Reading::default() };
    reader.visit_file(&file);
    let mut read = reader.read;
    let aliases = read.aliases.clone();
    for named in read.named.iter_mut().filter(|named| !named.imported) {
        expand(&mut named.path, &aliases);
    }
    Ok(read)
}

/// Replaces a first segment that was imported by what was imported.
fn expand(path: &mut Vec<String>, aliases: &BTreeMap<String, Vec<String>>) {
    // An alias may stand for an alias; eight of them are a circle.
    for _ in 0..8 {
        let Some(full) = aliases.get(&path[0]).filter(|full| full[0] != path[0]) else { return };
        path.splice(..1, full.iter().cloned());
    }
}

struct Reader {
    module: Vec<String>,
    /// Inline modules around what is visited.
    inside: Vec<String>,
    test: bool,
    read: Reading,
}

impl Reader {
    /// Visits what is compiled for tests only if `attrs` say so.
    fn within(&mut self, attrs: &[Attribute], visit: impl FnOnce(&mut Self)) {
        let before = self.test;
        self.test |= attrs.iter().any(only_tests);
        visit(self);
        self.test = before;
    }

    fn word(&self, text: impl ToString, span: Span) -> Word {
        Word { text: text.to_string(), line: span.start().line, test: self.test }
    }

    fn name(&mut self, path: Vec<String>, span: Span, imported: bool) {
        let path = self.absolute(path);
        self.read.named.push(Named { path, line: span.start().line, test: self.test, imported });
    }

    /// Writes `self` and `super` out.
    fn absolute(&self, path: Vec<String>) -> Vec<String> {
        let mut here: Vec<String> = self.module.iter().chain(&self.inside).cloned().collect();
        let mut rest = path.as_slice();
        match rest.first().map(String::as_str) {
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|word| word == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            _ => return path,
        }
        std::iter::once("crate".to_owned()).chain(here).chain(rest.iter().cloned()).collect()
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |word: String| before.iter().cloned().chain([word]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(path.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
            UseTree::Glob(glob) => self.name(with("*".to_owned()), glob.span(), true),
            UseTree::Name(name) => self.bind(&name.ident, &name.ident, before),
            UseTree::Rename(rename) => self.bind(&rename.ident, &rename.rename, before),
        }
    }

    /// One name of a `use`: `ident` below `before`, known here as `alias`.
    fn bind(&mut self, ident: &syn::Ident, alias: &syn::Ident, before: &[String]) {
        let mut path = before.to_vec();
        // `a::{self}` is `a`, and known as such; a `self` that comes first is this module.
        let itself = ident == "self" && !before.is_empty();
        if !itself {
            path.push(ident.to_string());
        }
        let known = if itself && alias == "self" {
            before.last().cloned().unwrap_or_default()
        } else {
            alias.to_string()
        };
        let full = self.absolute(path.clone());
        if full.len() > 1 || known != full[0] {
            self.read.aliases.insert(known, full);
        }
        self.name(path, ident.span(), true);
    }

    fn function(&mut self, signature: &Signature, body: &Block) {
        let start = signature.span().start().line;
        let lines = body.brace_token.span.close().end().line - start + 1;
        let flat = body.stmts.iter().any(|stmt| spans(stmt) + 8 >= lines && is_match(stmt));
        let name = signature.ident.to_string();
        self.read.functions.push(Function { name, line: start, lines, flat, test: self.test });
    }

    /// Searches tokens for paths, macros and `unsafe`; `before` are the segments in front of a group of a `use`.
    fn tokens(&mut self, tokens: TokenStream, before: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(first) => {
                    if first == "unsafe" {
                        let word = self.word("unsafe", first.span());
                        self.read.unsafes.push(word);
                    }
                    let mut path = before.to_vec();
                    path.push(first.to_string());
                    at += 1;
                    while separated(&tokens, at)
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 2)
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    let group = separated(&tokens, at).then(|| tokens.get(at + 2)).flatten();
                    if let Some(TokenTree::Group(group)) = group
                        && group.delimiter() == Delimiter::Brace
                    {
                        self.tokens(group.stream(), &path);
                        at += 3;
                    } else {
                        self.word_of_tokens(path, first.span(), &tokens[at..]);
                    }
                }
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), &[]);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    fn word_of_tokens(&mut self, path: Vec<String>, span: Span, after: &[TokenTree]) {
        let bang = matches!(after.first(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
        if bang && matches!(after.get(1), Some(TokenTree::Group(_))) {
            let word = self.word(path.last().expect("a path has segments"), span);
            self.read.macros.push(word);
        }
        if path.len() > 1 {
            self.name(path, span, false);
        }
    }
}

/// Whether `::` stands at `at`.
fn separated(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

fn spans(stmt: &Stmt) -> usize {
    stmt.span().end().line - stmt.span().start().line + 1
}

/// Whether a statement is a `match`, or does one thing to what a `match` yields.
fn is_match(stmt: &Stmt) -> bool {
    fn inner(expr: &Expr) -> bool {
        match expr {
            Expr::Match(_) => true,
            Expr::Call(call) => call.args.len() == 1 && inner(&call.args[0]),
            Expr::Try(tried) => inner(&tried.expr),
            Expr::Await(awaited) => inner(&awaited.base),
            Expr::MethodCall(call) => inner(&call.receiver),
            Expr::Return(returned) => returned.expr.as_deref().is_some_and(inner),
            _ => false,
        }
    }
    match stmt {
        Stmt::Expr(expr, _) => inner(expr),
        Stmt::Local(local) => local.init.as_ref().is_some_and(|init| inner(&init.expr)),
        _ => false,
    }
}

/// Whether an attribute leaves out what follows when no test is compiled.
fn only_tests(attr: &Attribute) -> bool {
    fn implied(tokens: TokenStream) -> Vec<bool> {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        tokens
            .split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
            .map(|part| match part {
                [TokenTree::Ident(word)] => word == "test",
                [TokenTree::Ident(word), TokenTree::Group(group)] if word == "all" => {
                    implied(group.stream()).contains(&true)
                }
                [TokenTree::Ident(word), TokenTree::Group(group)] if word == "any" => {
                    !implied(group.stream()).contains(&false)
                }
                _ => false,
            })
            .collect()
    }
    let last = attr.path().segments.last().map(|segment| segment.ident.to_string());
    match &attr.meta {
        syn::Meta::List(list) if attr.path().is_ident("cfg") => implied(list.tokens.clone()) == [true],
        _ => last.is_some_and(|word| word == "test"),
    }
}

fn attrs_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn value_of(attrs: &[Attribute], name: &str) -> Option<String> {
    attrs.iter().filter(|attr| attr.path().is_ident(name)).find_map(|attr| match &attr.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            value: Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }),
            ..
        }) => Some(text.value()),
        _ => None,
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        self.within(attrs_of(item), |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attrs: &[Attribute] = match item {
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        self.within(attrs, |reader| visit::visit_impl_item(reader, item));
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if let TraitItem::Fn(function) = item
            && let Some(body) = &function.default
        {
            self.function(&function.sig, body);
        }
        visit::visit_trait_item(self, item);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        self.within(&local.attrs, |reader| visit::visit_local(reader, local));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inside.push(item.ident.to_string());
        if item.content.is_none() {
            let (path, file) = (self.inside.clone(), value_of(&item.attrs, "path"));
            self.read.modules.push(Declared { path, file, test: self.test });
        }
        visit::visit_item_mod(self, item);
        self.inside.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.name(vec![item.ident.to_string()], item.span(), true);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.name(segments, path.span(), false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        if let Some(last) = called.path.segments.last() {
            let word = self.word(&last.ident, last.span());
            self.read.macros.push(word);
        }
        self.tokens(called.tokens.clone(), &[]);
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attr: &'ast Attribute) {
        if attr.path().is_ident("unsafe") {
            let word = self.word("unsafe", attr.span());
            self.read.unsafes.push(word);
        }
        if attr.path().is_ident("ignore") {
            let word = self.word("#[ignore]", attr.span());
            self.read.ignored.push(word);
        }
        if let syn::Meta::List(list) = &attr.meta {
            self.tokens(list.tokens.clone(), &[]);
            // Paths in strings: serde's `with = "crate::time"`.
            for token in list.tokens.clone() {
                if let TokenTree::Literal(literal) = token
                    && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                    && let Ok(path) = text.parse::<syn::Path>()
                {
                    self.visit_path(&path);
                }
            }
        }
        visit::visit_attribute(self, attr);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        if let Some(token) = &signature.unsafety {
            let word = self.word("unsafe fn", token.span());
            self.read.unsafes.push(word);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        let word = self.word("unsafe block", block.span());
        self.read.unsafes.push(word);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            let word = self.word("unsafe impl", token.span());
            self.read.unsafes.push(word);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if let Some(token) = &item.unsafety {
            let word = self.word("unsafe trait", token.span());
            self.read.unsafes.push(word);
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        let word = self.word("extern block", item.span());
        self.read.unsafes.push(word);
        visit::visit_item_foreign_mod(self, item);
    }
}
