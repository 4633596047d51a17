import sys
from pipeline import stages
print(stages.run(sys.argv[2], sys.argv[3]))
