# SPDX-License-Identifier: MIT
#
# Translates goals into one call of bin/lab, which does all the work and needs no
# make: `bin/lab help`. `make lab-3 check` is two goals, in either order, for
# `bin/lab check 3`; `make check-3` is short for it. CODE=, PROGRAM=, SOLUTION=,
# KERNEL=, PARAMS=, DELAY= and the others reach bin/lab in its environment; ARGS=
# are arguments for it, or for the program that `run` runs; N= is how often soak
# and bench do it.

VERBS := list check run hint solution reset shell doctor setup test \
         vagrant-test gate soak matrix bench output starter claims help

GOALS := $(or $(MAKECMDGOALS),list)
WORDS := $(foreach g,$(GOALS),$(or \
         $(strip $(foreach v,$(VERBS),$(if $(filter $v-%,$g),$(patsubst $v-%,lab-% $v,$g)))),$g))
LAB   := $(patsubst lab-%,%,$(sort $(filter lab-%,$(WORDS))))
VERB  := $(sort $(filter $(VERBS),$(WORDS)))
OTHER := $(filter-out lab-% $(VERBS),$(WORDS))

$(if $(OTHER),$(error there is no goal $(firstword $(OTHER)). It is lab-3, or lab-3 check; `make` lists the labs and the commands))
$(if $(word 2,$(LAB)),$(error one lab at a time, not $(LAB): make lab-$(firstword $(LAB)) check. All labs: make check))
$(if $(word 2,$(VERB)),$(error one thing at a time, not $(VERB)))

CALL := $(or $(VERB),$(if $(LAB),show,list)) $(if $(filter soak bench,$(VERB)),$(if $(N),-n $(N))) $(LAB) $(ARGS)

MAKEFLAGS += --silent --no-print-directory
.NOTPARALLEL:
.PHONY: $(GOALS)
$(firstword $(GOALS)):
	lab=$$(sh cmd/build.sh) && "$$lab" $(CALL)
$(filter-out $(firstword $(GOALS)),$(GOALS)): ; @:
