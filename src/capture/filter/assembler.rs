//! An assembler for eBPF: code with jumps to labels.

use crate::kernel::insn::Insn;

/// Whether code that follows a piece of code can be reached from it.
pub(super) fn falls_through(piece: &[Insn]) -> bool {
    let ends = [Insn::exit().code, Insn::jump(0).code];
    let last = piece.last().is_none_or(|last| !ends.contains(&last.code));
    last || piece.iter().enumerate().any(|(at, insn)| {
        insn.is_jump() && at + 1 + usize::try_from(insn.off).unwrap_or(0) == piece.len()
    })
}

/// A place in the code. It may come after the jumps to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Code that is being assembled.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Insn>,
    /// Where each label is.
    places: Vec<Option<usize>>,
    /// Jumps whose displacement is not known yet.
    jumps: Vec<(usize, Label)>,
}

/// A jump that is longer than eBPF jumps can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFar;

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Puts the label here.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    pub(super) fn emit(&mut self, insn: Insn) {
        self.code.push(insn);
    }

    pub(super) fn emit_all(&mut self, code: &[Insn]) {
        self.code.extend_from_slice(code);
    }

    /// Emits a jump to a label.
    pub(super) fn emit_jump(&mut self, insn: Insn, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.code.push(insn);
    }

    /// Whether anything jumps to a label.
    pub(super) fn is_used(&self, label: Label) -> bool {
        self.jumps.iter().any(|(_, to)| *to == label)
    }

    /// The code, with every displacement filled in.
    pub(super) fn finish(mut self) -> Result<Vec<Insn>, TooFar> {
        for (at, Label(label)) in self.jumps {
            let to = self.places[label].and_then(|to| i64::try_from(to).ok()).ok_or(TooFar)?;
            let next = i64::try_from(at).map_err(|_| TooFar)? + 1;
            self.code[at].off = i16::try_from(to - next).map_err(|_| TooFar)?;
        }
        Ok(self.code)
    }
}
