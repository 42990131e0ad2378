/*
 * Inodes with a kernel and backings that are made up: no mount, no files, and every rule
 * that the real kernel has is checked at each call.
 *
 * What breaks a rule is noted and found by fake_stop(), since it may happen in any
 * thread.
 */
#ifndef TESTS_FAKE_INODES_H
#define TESTS_FAKE_INODES_H

#include "inodes.h"

#define FAKE_MIB ((uint64_t)1 << 20)

/* Tensors of the model: the first is small, tensor i > 0 has i MiB. */
#define FAKE_TENSORS 9u

/* An OPEN of a client. */
struct fake_open {
	struct node node;
	unsigned int answers;
	int err;
	int id; /* 0: stream */
	uint64_t handle;
	bool called_off;  /* the reply comes too late */
	bool interrupted; /* the client got a signal */
	void (*on_interrupt)(fuse_req_t req, void *data);
	void *data;
};

/* What make() and register_file() are to say; 0 for success. */
struct fake_errors {
	int make;
	int register_file;
	unsigned int every; /* only each so many-th time; 0: always */
};

/* Starts anew. `backing` is as -o backing=. No fill threads yet. */
void fake_start(enum backing_choice backing, uint64_t limit, uint64_t most_clones);

/* The end of the requests: inodes_shut(). */
void fake_end(void);

/* Frees the inodes, and checks that no rule was broken, no file is left, and every open
 * was answered once. */
void fake_stop(void);

struct inodes *fake_inodes(void);

struct node fake_node(uint32_t tensor, enum view view);

void fake_set_errors(struct fake_errors errors);

/* From here on resident files are begun and not finished, until it is taken back. */
void fake_hold(bool hold);

/* Waits until so many resident files were begun, since the start. */
void fake_wait_begun(unsigned int count);

/* Position among all that were begun, from 1 on; 0: not begun. */
unsigned int fake_begun(uint32_t tensor);

/* How many files were made by the calling thread. */
unsigned int fake_made_here(void);

/* Files that exist: made and not closed. */
unsigned int fake_files(void);

/* Waits until nothing is queued or being made. */
void fake_wait_quiet(void);

/* Opens: the answer may come later. The result lives until fake_close() or fake_drop().
 */
struct fake_open *fake_open(struct node node);
struct fake_open *fake_open_called_off(struct node node);
struct fake_open *fake_open_interrupted(struct node node);

/* The client gets a signal, if the open is not answered yet. */
void fake_interrupt(struct fake_open *open);

bool fake_is_answered(struct fake_open *open);
void fake_wait_answer(struct fake_open *open);

/* Waits for the answer and closes. Returns the id that the open had, or -errno. */
int fake_close(struct fake_open *open);

/* For an open that has no RELEASE. */
void fake_drop(struct fake_open *open);

struct inodes_summary fake_summary(void);

/* Notes that a rule is broken. Any thread. */
void fake_blame(const char *rule);

#endif
