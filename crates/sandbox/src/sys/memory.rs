//! The memory of the spawner's clones.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Of each clone of the spawner, before it takes memory as everybody does.
const OWN_BYTES: usize = 64 << 10;
/// Alignment of whatever is asked for.
const OWN_ALIGNMENT: usize = 16;

#[repr(align(4096))]
struct OwnSpace(UnsafeCell<[u8; OWN_BYTES]>);

// SAFETY: only [`CloneMemory`] gives parts of it away, each once.
unsafe impl Sync for OwnSpace {}

static OWN_SPACE: OwnSpace = OwnSpace(UnsafeCell::new([0; OWN_BYTES]));
/// Bytes of it that are given away.
static OWN_USED: AtomicUsize = AtomicUsize::new(0);
/// Whether it was too small once: then the system's allocator is used in a clone too.
static OWN_SPENT: AtomicBool = AtomicBool::new(false);
/// Whether this process is a clone.
static OWN_BEGUN: AtomicBool = AtomicBool::new(false);

/// The allocator of the spawner's program, and of its clones from its cloning on.
///
/// A clone shares its memory with the spawner until it writes to it: then the kernel copies a page, in
/// 3 us. The system's allocator hands out what lies free here and there, so that the few KiB which a
/// pid 1 and a guest need were 55 pages; here they are side by side, 5 pages. What the spawner had is
/// not given back in a clone, which would write to it too.
#[derive(Debug)]
pub struct CloneMemory;

impl CloneMemory {
    /// This process is a clone with one thread.
    pub(crate) fn begin() {
        OWN_BEGUN.store(true, Ordering::Relaxed);
    }

    fn begins_at() -> usize {
        OWN_SPACE.0.get() as usize
    }

    /// Where `block` begins in the space.
    fn offset(block: *mut u8) -> Option<usize> {
        (block as usize).checked_sub(CloneMemory::begins_at()).filter(|at| *at < OWN_BYTES)
    }

    /// Sets what is given away to what ends at `offset + size`, if there is room.
    fn take(offset: usize, size: usize) -> bool {
        let end = offset.checked_add(size).map(|end| end.next_multiple_of(OWN_ALIGNMENT));
        let end = end.filter(|end| *end <= OWN_BYTES);
        end.inspect(|end| OWN_USED.store(*end, Ordering::Relaxed)).is_some()
    }
}

// SAFETY: a block of the space is given away once: `OWN_USED` grows by what it has and shrinks only to
// the beginning of the last block, when that is given back; a clone has one thread. The space begins
// at a page and blocks at multiples of `OWN_ALIGNMENT`, which is as much as is asked for. All else is
// the system's, and goes back to it.
unsafe impl GlobalAlloc for CloneMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let offset = OWN_USED.load(Ordering::Relaxed);
        if OWN_BEGUN.load(Ordering::Relaxed) {
            if layout.align() <= OWN_ALIGNMENT && CloneMemory::take(offset, layout.size()) {
                return OWN_SPACE.0.get().cast::<u8>().wrapping_add(offset);
            }
            OWN_SPENT.store(true, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match CloneMemory::offset(block) {
            Some(offset) => {
                let end = (offset + layout.size()).next_multiple_of(OWN_ALIGNMENT);
                if end == OWN_USED.load(Ordering::Relaxed) {
                    OWN_USED.store(offset, Ordering::Relaxed);
                }
            }
            // The spawner's: it is left as it is.
            None if OWN_BEGUN.load(Ordering::Relaxed) && !OWN_SPENT.load(Ordering::Relaxed) => {}
            // SAFETY: it is not of the space, and was given by the system.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let own = CloneMemory::offset(block);
        if own.is_none() && !OWN_BEGUN.load(Ordering::Relaxed) {
            // SAFETY: it is not of the space, and was given by the system.
            return unsafe { System.realloc(block, layout, size) };
        }
        if let Some(offset) = own {
            let end = (offset + layout.size()).next_multiple_of(OWN_ALIGNMENT);
            let last = end == OWN_USED.load(Ordering::Relaxed);
            if size <= layout.size() || (last && CloneMemory::take(offset, size)) {
                return block;
            }
        }
        // SAFETY: the new block is another one, both are as large as what is copied, and the old one is
        // given back as it was taken. The caller promises that the layout is valid.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Block {
        at: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Block {
        fn fill(&self) {
            // SAFETY: the block is of this size, and nobody else's.
            unsafe { self.at.write_bytes(self.mark, self.layout.size()) };
        }

        /// Whether its first bytes are what was written there.
        fn holds(&self, bytes: usize) -> bool {
            // SAFETY: the block is at least of this size.
            unsafe { std::slice::from_raw_parts(self.at, bytes) }.iter().all(|b| *b == self.mark)
        }
    }

    fn own(block: &Block) -> bool {
        CloneMemory::offset(block.at).is_some()
    }

    /// Takes, changes and gives back blocks in an order that looks like chance; each holds what was
    /// written to it all the time, and none lies on another.
    #[test]
    fn blocks_hold_what_was_written_before_a_clone_begins_and_in_it_and_when_it_has_no_more() {
        let memory = CloneMemory;
        let mut blocks: Vec<Block> = Vec::new();
        let mut chance = 7u32;
        let mut next = |below: usize| {
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (chance >> 8) as usize % below
        };
        let (mut from_own, mut spent_at) = (0, None);
        for step in 0..20_000 {
            if step == 500 {
                CloneMemory::begin();
            }
            match next(5) {
                0..=1 => {
                    let most = if next(50) == 0 { 3000 } else { 90 };
                    let size = 1 + next(most);
                    let layout = Layout::from_size_align(size, 1 << next(7)).unwrap();
                    // SAFETY: the size is not zero.
                    let at = unsafe { memory.alloc(layout) };
                    assert!(!at.is_null() && (at as usize).is_multiple_of(layout.align()));
                    let block = Block { at, layout, mark: step as u8 };
                    block.fill();
                    from_own += usize::from(own(&block));
                    assert!(step >= 500 || !own(&block), "it is no clone yet");
                    blocks.push(block);
                }
                2 if !blocks.is_empty() => {
                    let at = next(blocks.len());
                    let block = &mut blocks[at];
                    let (old, size) = (block.layout, 1 + next(200));
                    // SAFETY: the block was given with this layout.
                    block.at = unsafe { memory.realloc(block.at, old, size) };
                    block.layout = Layout::from_size_align(size, old.align()).unwrap();
                    assert!((block.at as usize).is_multiple_of(old.align()));
                    assert!(block.holds(old.size().min(size)));
                    block.fill();
                }
                3..=4 if !blocks.is_empty() => {
                    // The last one often, as programs do.
                    let at = if next(2) == 0 { blocks.len() - 1 } else { next(blocks.len()) };
                    let block = blocks.swap_remove(at);
                    assert!(block.holds(block.layout.size()));
                    // SAFETY: the block was given with this layout, and is used no more.
                    unsafe { memory.dealloc(block.at, block.layout) };
                }
                _ => {}
            }
            if spent_at.is_none() && OWN_SPENT.load(Ordering::Relaxed) {
                spent_at = Some(step);
            }
        }
        assert!(blocks.iter().all(|block| block.holds(block.layout.size())));
        assert!(from_own > 300, "{from_own} were of the space");
        assert!(spent_at.is_some_and(|step| step > 500), "{spent_at:?}");
    }

    #[test]
    fn the_last_block_grows_and_is_given_back_in_place() {
        let memory = CloneMemory;
        CloneMemory::begin();
        let layout = |size| Layout::from_size_align(size, 1).unwrap();
        // SAFETY: sizes are not zero, and each block is given back with the layout that it has.
        unsafe {
            let first = memory.alloc(layout(10));
            let grown = memory.realloc(first, layout(10), 1000);
            assert_eq!(first, grown);
            let second = memory.alloc(layout(10));
            assert_ne!(memory.realloc(grown, layout(1000), 2000), grown, "one is behind it");
            let used = OWN_USED.load(Ordering::Relaxed);
            let third = memory.alloc(layout(OWN_BYTES - used));
            assert!(CloneMemory::offset(third).is_some(), "all that is left");
            let more = memory.alloc(layout(1));
            assert!(CloneMemory::offset(more).is_none() && !more.is_null(), "one more byte");
            memory.dealloc(more, layout(1));
            memory.dealloc(third, layout(OWN_BYTES - used));
            assert_eq!(OWN_USED.load(Ordering::Relaxed), used);
            memory.dealloc(second, layout(10));
        }
    }
}
