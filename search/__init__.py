"""The controller: study files, ask and tell, samplers, executors, fronts, and the command line."""
