"""Importing this makes a test build, sys.argv[1], the module faulthandler."""
import importlib.util
import sys

spec = importlib.util.spec_from_file_location("faulthandler", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["faulthandler"] = module
spec.loader.exec_module(module)
