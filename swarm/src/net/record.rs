//! What a running torrent says in its journal. All of it may wait for a disk, and runs on blocking threads.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::journal_file::JournalFile;
use super::storage::is_shortage;
use super::torrent::Torrent;
use crate::core::InnerId;
use crate::journal::Record;

impl Torrent {
    /// Appends to the journal, if there is one.
    pub fn record(&self, record: &Record) -> io::Result<()> {
        self.append(&mut self.held_journal(), record)
    }

    /// Says that an fdatasync covers `pieces`, and returns when that is on the medium. Pieces that were withdrawn or written anew
    /// since are left out; returns the others.
    pub fn record_durable(&self, pieces: &BTreeSet<u32>) -> io::Result<Vec<u32>> {
        let (covered, file) = {
            let mut journal = self.held_journal();
            // Under the journal's lock: a record that withdraws one of them comes behind this one.
            let covered = self.still_covered(pieces);
            self.append(&mut journal, &Record::Durable(covered.clone()))?;
            (covered, journal.as_ref().map(JournalFile::file))
        };
        // Outside of it: those who write pieces append to the journal too, and hold turns at the disk.
        let Some(file) = file else { return Ok(covered) };
        if let Err(error) = file.sync_data() {
            self.held_journal().iter_mut().for_each(|journal| journal.sync_failed(&file));
            return Err(error);
        }
        Ok(covered)
    }

    fn still_covered(&self, pieces: &BTreeSet<u32>) -> Vec<u32> {
        let ledger = self.ledger();
        let core = self.core();
        let covered = pieces.iter().filter(|piece| core.have().contains(**piece) && !ledger.waits(**piece));
        covered.copied().collect()
    }

    /// A piece cannot be read: it is fetched again (T70, T74), unless that was for want of memory or descriptors (T76).
    pub fn unreadable(self: &Arc<Self>, piece: u32, error: &io::Error) {
        if is_shortage(error) {
            tracing::warn!(piece, %error, "a piece cannot be read now");
            return;
        }
        tracing::warn!(piece, %error, "a piece cannot be read; it is fetched again");
        let torrent = self.clone();
        self.tasks.spawn_blocking(move || torrent.withdraw_all([piece]));
    }

    /// Pieces cannot be read, or were not made durable: they are fetched again.
    pub fn withdraw_all(&self, pieces: impl IntoIterator<Item = u32>) {
        let gone = pieces.into_iter().filter(|piece| self.withdraw_one(*piece)).count();
        if gone > 0 {
            self.bump();
            self.dial_now.notify_one();
            self.stats_now.notify_one();
        }
    }

    fn withdraw_one(&self, piece: u32) -> bool {
        // Held to the end, so that nothing says that the piece is durable between the record and the act.
        let mut journal = self.held_journal();
        if !self.core().have().contains(piece) {
            return false;
        }
        if let Err(error) = self.append(&mut journal, &Record::Withdrawn(piece)) {
            tracing::warn!(piece, %error, "a withdrawn piece could not be noted in the journal");
        }
        self.core().withdraw(piece);
        self.ledger().withdrawn(piece, self.payload(piece));
        true
    }

    /// The journal is that of a torrent that is called so from now on.
    pub fn rename_journal(&self, inner: InnerId) -> io::Result<()> {
        let mut journal = self.held_journal();
        let Some(journal) = journal.as_mut() else { return Ok(()) };
        let (durable, unproven) = self.ledger().journal();
        journal.rename(inner, &durable, unproven)
    }

    fn held_journal(&self) -> MutexGuard<'_, Option<JournalFile>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, journal: &mut Option<JournalFile>, record: &Record) -> io::Result<()> {
        let Some(journal) = journal else { return Ok(()) };
        if journal.is_spent() {
            let (durable, unproven) = self.ledger().journal();
            journal.recreate(&durable, unproven)?;
        }
        journal.append(record)
    }
}
