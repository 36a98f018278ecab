package main

import (
	"context"
	"errors"
	"net/http"

	"outstation/vision/models"
)

// modelCalls registers what can be asked of the models of a running appliance.
func (a *app) modelCalls(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v1/models/{name}/activate", a.activateModel)
	mux.HandleFunc("POST /api/v1/models/{name}/rollback", a.rollBackModel)
}

// activateModel answers when the version serves, or why it does not. Loading
// one may take minutes; whoever asked and leaves ends it.
func (a *app) activateModel(w http.ResponseWriter, r *http.Request) {
	unhurried(w)
	ctx, cancel := a.modelContext(r)
	defer cancel()
	done, err := a.models.activate(ctx, r.PathValue("name"), r.FormValue("version"), r.FormValue("gate") != "skip")
	if err != nil {
		answer(w, modelStatus(err), apiError{err.Error()})
		return
	}
	answer(w, http.StatusOK, done)
}

func (a *app) rollBackModel(w http.ResponseWriter, r *http.Request) {
	unhurried(w)
	ctx, cancel := a.modelContext(r)
	defer cancel()
	st, err := a.models.rollBack(ctx, r.PathValue("name"))
	if err != nil {
		answer(w, modelStatus(err), apiError{err.Error()})
		return
	}
	answer(w, http.StatusOK, st)
}

// modelContext ends with the request and with the appliance.
func (a *app) modelContext(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(a.modelsCtx, cancel)
	return ctx, func() { stop(); cancel() }
}

// modelStatus is how HTTP calls an error about models.
func modelStatus(err error) int {
	switch {
	case errors.Is(err, models.ErrNoModel), errors.Is(err, models.ErrNoVersion), errors.Is(err, models.ErrNotActive):
		return http.StatusNotFound
	case errors.Is(err, errBusyModels):
		return http.StatusConflict
	case errors.Is(err, models.ErrGate), errors.Is(err, models.ErrNoGolden), errors.Is(err, models.ErrDamaged), errors.Is(err, errNoSidecar):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}
