# Marks the folder as a package, so that cimport resolves here.
