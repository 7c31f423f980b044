/* libFuzzer's entry points around an embedded interpreter: each input goes to the `one_input` of one Python module.
 *
 * The extensions under test are loaded by its imports; built with -fsanitize=fuzzer-no-link they report their coverage
 * to this program. An exception that leaves `one_input` is a finding: it is shown, and the process aborts.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

static PyObject *one_input;

static void give_up(void) {
    PyErr_Print();
    fflush(NULL);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    PyConfig config;
    PyStatus status;
    const char *name = getenv("SE_FUZZ_TARGET");
    PyObject *module;

    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0; /* libFuzzer has its own */
    config.parse_argv = 0;
    status = PyConfig_SetBytesString(&config, &config.executable, SE_FUZZ_PYTHON);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    module = PyImport_ImportModule(name ? name : "");
    one_input = module ? PyObject_GetAttrString(module, "one_input") : NULL;
    if (one_input == NULL) {
        PyErr_Print();
        exit(1);
    }
    (void)argc, (void)argv;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    PyObject *result = PyObject_CallFunction(one_input, "y#", (const char *)data, (Py_ssize_t)size);
    if (result == NULL)
        give_up();
    Py_DECREF(result);
    return 0;
}
