from selfrepair.artifact.crate import CrateError
from selfrepair.artifact.verify_run import VerificationError, verify_run
from selfrepair.core.program import program

program(verify_run, CrateError, VerificationError, ValueError)
